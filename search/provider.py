"""Implements what lower packages need of search (chatsystem/search_interface.py). Documented in docs/search.md."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from search import outbox
from search.backends import get_backend
from search.backends.base import Scope, SearchUnavailable
from search.tokenizer import parse

#: The number of messages that a search in the admin lists.
BEST = 500


class Provider:
    def load(self) -> None:
        get_backend()

    def ping(self) -> None:
        get_backend().ping()

    def identity(self) -> str:
        return get_backend().identity()

    def index_state(self) -> dict[str, Any]:
        return asdict(get_backend().state())

    def lag(self) -> outbox.Lag:
        return outbox.lag()

    def best_matches(self, words: str) -> list[int] | None:
        try:
            hits = get_backend().search(parse(words), Scope(), BEST)
        except SearchUnavailable:
            return None
        return [hit.document.id for hit in hits.page]
