"""The seam between search and the engine that does it. Documented in docs/search.md.

tests/search/backend_contract.py says what every backend does, and runs on each of them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from search.documents import Document
from search.text import Query

#: Where a hit stands in its result, in the backend's own terms: plain JSON, handed back to it in a cursor.
Place = Sequence[Any]


class SearchUnavailable(Exception):
    """The index is away, locked or broken. Nothing is known about what was asked; asking again later may help."""


@dataclass(frozen=True, slots=True)
class Scope:
    """The tenancy of a search: everything, one application, or one of its chats."""

    application_token: str | None = None
    chat_number: int | None = None


@dataclass(frozen=True, slots=True)
class Hit:
    document: Document
    place: Place


@dataclass(frozen=True, slots=True)
class Hits:
    """One page of hits, best first. `count` is of all pages; `more` tells whether any lie beyond, in the direction."""

    count: int
    page: list[Hit]
    more: bool


@dataclass(frozen=True, slots=True)
class IndexState:
    """The index in service, for people to look at."""

    #: None while there is none.
    name: str | None
    documents: int
    #: Whether it was ever filled: see `is_complete`.
    complete: bool
    #: The name of the one that is being built beside it.
    building: str | None = None


class SearchBackend(ABC):
    """An index of documents. Every method may raise SearchUnavailable."""

    #: Whether a rebuild fills the index in service. Then it writes every document anew, as whatever made it necessary
    #: may be what cannot be seen by comparing them.
    rebuilds_in_place = True

    @abstractmethod
    def index(self, documents: Sequence[Document]) -> None:
        """Has each document replace that of its id, unless the index holds a newer version. On return it is durable."""

    @abstractmethod
    def remove(self, versions: Mapping[int, int]) -> None:
        """Removes the documents of these ids that still have this version."""

    @abstractmethod
    def search(
        self, query: Query, scope: Scope, limit: int, *, after: Place | None = None, before: Place | None = None
    ) -> Hits:
        """The first hits, or those that follow or precede a place; always in order, best first, newest among equals."""

    @abstractmethod
    def count(self, through: int) -> int:
        """How many documents have an id up to `through`."""

    @abstractmethod
    def last_id(self) -> int:
        """The highest id, 0 for an empty index."""

    @abstractmethod
    def documents(self, low: int, high: int) -> dict[int, Document]:
        """The documents with `low` < id <= `high`, as the index holds them."""

    @abstractmethod
    def state(self) -> IndexState: ...

    @abstractmethod
    def ping(self) -> None:
        """Returns when searches can be answered."""

    def is_complete(self) -> bool:
        """Whether it was ever filled: an index that was lost and made anew lacks what was stored before."""
        return True

    @contextmanager
    def rebuild(self) -> Iterator[SearchBackend]:
        """Gives the index that a reindex is to fill, and puts it into service when it leaves without an exception.

        By default this is the one in service, filled in place.
        """
        yield self

    def drop_old(self) -> list[str]:
        """Deletes the indexes that rebuilds have taken out of service; returns their names."""
        return []
