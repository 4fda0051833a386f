"""An index of several shards finds what one of one shard finds, in the same order, and `reindex` makes it."""

from __future__ import annotations

import random
from io import StringIO

import pytest
from django.core.management import call_command
from pytest_django import Settings

from chatsystem.writelog.events import to_datetime
from search import outbox
from search.backends import get_backend
from search.backends.base import Scope, SearchBackend
from search.backends.elasticsearch import indexes
from search.backends.elasticsearch.client import client
from search.documents import Document
from search.tokenizer import parse
from tests.search.backend_contract import NOON, OURS, THEIRS

pytestmark = pytest.mark.parametrize("index", ["elasticsearch"], indirect=True)

WORDS = ["alpha", "alpine", "beta", "bear", "gamma", "好", "世界", "好世"]


def held_settings() -> dict[str, str]:
    (found,) = client().indices.get_settings(index=indexes.live_alias(), flat_settings=True).values()
    return found["settings"]


def test_three_shards_give_the_hits_of_one_in_the_same_order(index: SearchBackend, settings: Settings) -> None:
    # Given the same documents in one shard and in three, unevenly: most of them are short and alike,
    chance = random.Random(1)
    documents = [
        Document(id, NOON, chance.choice([OURS, THEIRS]), 1, id, text, to_datetime(NOON + id // 3))
        for id in range(1, 401)
        for text in [" ".join(chance.choices(WORDS, weights=[9, 1, 5, 1, 1, 3, 1, 1], k=chance.choice([1, 2, 3, 12])))]
    ]
    ranked: dict[int, list[list[int]]] = {}
    for shards in (1, 3):
        settings.ELASTICSEARCH_SHARDS = shards
        with index.rebuild() as target:
            target.index(documents)
        assert held_settings()["index.number_of_shards"] == str(shards)

        # when both are searched page by page,
        ranked[shards] = [
            everything(index, query, scope)
            for query in ["a", "alp", "alpha be", "b", "gamma", "好", "好世", "世界 alpha", "alpine bear 好"]
            for scope in (Scope(), Scope(OURS))
        ]

    # then the results are equal.
    assert ranked[3] == ranked[1]
    assert sum(map(len, ranked[1])) > 1_000, "the queries must find something"


def everything(index: SearchBackend, query: str, scope: Scope) -> list[int]:
    hits = index.search(parse(query), scope, 100)
    found = [hit.document.id for hit in hits.page]
    while hits.more:
        hits = index.search(parse(query), scope, 100, after=hits.page[-1].position)
        found += [hit.document.id for hit in hits.page]
    return found


@pytest.mark.django_db(transaction=True)
def test_a_reindex_applies_the_numbers_of_shards_and_replicas(
    index: SearchBackend, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    # Given an index in service, and other settings since,
    call_command("reindex", stdout=StringIO())
    assert get_backend().unapplied_settings() == []
    settings.ELASTICSEARCH_SHARDS, settings.ELASTICSEARCH_REPLICAS = 2, 0

    # when a worker starts, or the index is compared, then the difference is told, and nothing is changed.
    outbox.complete_index()
    output = StringIO()
    call_command("reindex", "--verify", stdout=output)
    for sentence in (
        "ELASTICSEARCH_SHARDS is 2, and the index in service was built with 1; run manage.py reindex to apply it.",
        "ELASTICSEARCH_REPLICAS is 0, and the index in service was built with 1; run manage.py reindex to apply it.",
    ):
        assert sentence in caplog.messages
        assert sentence in output.getvalue()
    assert held_settings()["index.number_of_shards"] == "1"

    # A reindex applies them.
    output = StringIO()
    call_command("reindex", stdout=output)
    assert "apply" not in output.getvalue()
    held = held_settings()
    assert (held["index.number_of_shards"], held["index.auto_expand_replicas"]) == ("2", "0-0")


@pytest.mark.django_db(transaction=True)
def test_a_reindex_that_goes_on_with_an_index_of_other_settings_says_so(
    index: SearchBackend, settings: Settings
) -> None:
    # Given an unfinished index that was begun with one shard and one replica,
    indexes.begin()
    settings.ELASTICSEARCH_SHARDS, settings.ELASTICSEARCH_REPLICAS = 2, 0

    # when a reindex completes it, then it has the new replicas, and the command says that the shards are the old ones.
    output = StringIO()
    call_command("reindex", stdout=output)
    assert "ELASTICSEARCH_SHARDS is 2, and the index in service was built with 1" in output.getvalue()
    assert "ELASTICSEARCH_REPLICAS" not in output.getvalue()


def test_an_index_that_is_being_built_has_replicas_too(index: SearchBackend, settings: Settings) -> None:
    settings.ELASTICSEARCH_REPLICAS = 2
    indexes.begin()
    found = client().indices.get_settings(index=indexes.building_alias(), flat_settings=True)
    assert [held["settings"]["index.auto_expand_replicas"] for held in found.values()] == ["0-2"]
