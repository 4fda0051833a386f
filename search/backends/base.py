"""The interface that every search backend implements. Documented in docs/search.md.

tests/search/backend_contract.py specifies the behaviour and runs on each backend.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from search.documents import Document
from search.tokenizer import Query

#: The position of a hit in its result, in the backend's own format: plain JSON, which a cursor hands back to it.
Position = Sequence[Any]


class SearchUnavailable(Exception):
    """The index is down, locked or broken. The search may succeed later."""


@dataclass(frozen=True, slots=True)
class Scope:
    """What a search covers: everything, one application, or one of its chats."""

    application_token: str | None = None
    chat_number: int | None = None


@dataclass(frozen=True, slots=True)
class Hit:
    document: Document
    position: Position


@dataclass(frozen=True, slots=True)
class Hits:
    """One page of hits, best first. `count` covers all pages; `more` says whether hits remain in the direction read."""

    count: int
    page: list[Hit]
    more: bool


@dataclass(frozen=True, slots=True)
class IndexState:
    """The index in service, as the admin shows it."""

    #: None if there is none.
    name: str | None
    documents: int
    #: Whether it has been filled: see `is_complete`.
    complete: bool
    #: The name of the index that a rebuild is filling beside it.
    building: str | None = None


class SearchBackend(ABC):
    """An index of documents. Every method may raise SearchUnavailable."""

    #: Whether a rebuild fills the index in service. Such a rebuild writes every document again, because a comparison of
    #: documents may not show the damage that made it necessary.
    rebuilds_in_place = True

    @abstractmethod
    def index(self, documents: Sequence[Document]) -> None:
        """Stores each document durably, unless the index already has a newer version of it."""

    @abstractmethod
    def remove(self, versions: Mapping[int, int]) -> None:
        """Removes the documents with these ids, if they still have this version."""

    @abstractmethod
    def search(
        self, query: Query, scope: Scope, limit: int, *, after: Position | None = None, before: Position | None = None
    ) -> Hits:
        """Returns the first hits, or those that follow or precede a position. Best first, newest first among equals."""

    @abstractmethod
    def count(self, through: int) -> int:
        """Returns the number of documents with an id up to `through`."""

    @abstractmethod
    def last_id(self) -> int:
        """Returns the highest id, 0 for an empty index."""

    @abstractmethod
    def documents(self, low: int, high: int) -> dict[int, Document]:
        """Returns the documents with `low` < id <= `high`, as the index has them."""

    @abstractmethod
    def state(self) -> IndexState: ...

    def identity(self) -> str:
        """Returns a name that differs between hosts. Empty if all hosts share the index, or if there is none yet."""
        return ""

    @abstractmethod
    def ping(self) -> None:
        """Raises SearchUnavailable unless searches can be answered."""

    def is_complete(self) -> bool:
        """Returns whether the index has been filled. A new index that replaced a lost one lacks the older messages."""
        return True

    @contextmanager
    def rebuild(self) -> Iterator[SearchBackend]:
        """Yields the index that a reindex fills, and puts it into service unless an exception is raised.

        By default this is the index in service.
        """
        yield self

    def unapplied_settings(self) -> list[str]:
        """Returns a sentence for each setting that the index in service was not built with. A reindex applies it."""
        return []

    def drop_old(self) -> list[str]:
        """Deletes the indexes that rebuilds have replaced, and returns their names."""
        return []
