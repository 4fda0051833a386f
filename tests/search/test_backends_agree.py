"""Both backends find the same messages, for random texts and queries."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from chatsystem.writelog.events import to_datetime
from search.backends.base import Scope, SearchBackend
from search.backends.fts5 import Fts5Backend
from search.documents import Document
from search.tokenizer import parse
from tests.search.backend_contract import NOON, OURS

#: A few letters of many kinds, so that random texts share words.
LETTERS = [
    "a",
    "b",
    "B",
    "é",
    "e\u0301",
    "ß",
    "1",
    "_",
    "'",
    "が",
    "か",
    "\u3099",
    "世",
    "界",
    "ｶ",
    "ﾞ",
    "好",
    "ﬁ",
    "½",
    "𐌰",
]
PARTS = [" ", " ", "  ", "，", "\n", ".", "🎉", "\u200d", "·", "/"]


def invent(chance: random.Random, most: int) -> str:
    return "".join(chance.choice(LETTERS if chance.random() < 0.8 else PARTS) for _ in range(chance.randint(1, most)))


@pytest.mark.parametrize("index", ["elasticsearch"], indirect=True)
@pytest.mark.parametrize("seed", range(3))
def test_they_find_the_same(index: SearchBackend, tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    documents = [Document(id, NOON, OURS, 1, id, invent(chance, 60), to_datetime(NOON + id)) for id in range(1, 401)]
    fts5 = Fts5Backend(tmp_path / "fts5.sqlite3")
    fts5.index(documents)
    with index.rebuild() as target:
        target.index(documents)
    found = 0
    for _ in range(150):
        query = parse(invent(chance, 6))
        one, other = (backend.search(query, Scope(OURS), 1_000) for backend in (fts5, index))
        assert one.count == other.count, query
        assert {hit.document.id for hit in one.page} == {hit.document.id for hit in other.page}, query
        found += one.count
    assert found > 1_000, "the queries must find something"
