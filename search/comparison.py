"""Whether the index equals the database: ids, versions, bodies. Documented in docs/search.md."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from django.db.models import Max

from messages_app.models import Message
from search.backends.base import SearchBackend
from search.documents import Document, of_range

#: Primary keys that are looked at together.
STRIDE = 1_000


@dataclass(frozen=True, slots=True)
class Difference:
    """A message that the database and the index hold differently; None is a side that does not hold it."""

    id: int
    stored: Document | None
    indexed: Document | None

    def __str__(self) -> str:
        if self.indexed is None:
            return f"message {self.id} is not in the index"
        if self.stored is None:
            return f"message {self.id} is in the index and not in the database"
        if self.stored.version != self.indexed.version:
            return f"message {self.id} is stored as of {self.stored.version}, indexed as of {self.indexed.version}"
        return f"message {self.id} is indexed with another text"


def strides(first: int, last: int) -> Iterator[tuple[int, int]]:
    """Ranges (low, high] of primary keys that cover `first` to `last`."""
    for low in range(first - 1, last, STRIDE):
        yield low, min(low + STRIDE, last)


def last_message_id() -> int:
    return Message.objects.aggregate(last=Max("pk"))["last"] or 0


def differences(backend: SearchBackend) -> Iterator[Difference]:
    """All of them, by id. While writes go on, those that are still under way to the index are among them."""
    for low, high in strides(1, max(last_message_id(), backend.last_id())):
        yield from differences_in(backend, low, high)


def differences_in(backend: SearchBackend, low: int, high: int) -> Iterator[Difference]:
    # The index first: what it holds was committed before, so a message missing from the later reading is no race.
    indexed = backend.documents(low, high)
    stored = {document.id: document for document in of_range(low, high)}
    for id in sorted(indexed.keys() | stored.keys()):
        if indexed.get(id) != stored.get(id):
            yield Difference(id, stored.get(id), indexed.get(id))
