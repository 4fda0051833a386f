"""Makes the index equal to the database while writes continue, or compares the two. Documented in docs/search.md."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from django.db.models import Max

from messages_app.models import Message
from search.backends.base import SearchBackend
from search.documents import Document, chunks, documents_in_range

#: The number of primary keys that are read together.
RANGE_SIZE = 1_000
#: Seconds within which the counts must become equal: a message may be committed after one with a higher id.
PATIENCE = 10.0


@dataclass(frozen=True, slots=True)
class Outcome:
    #: The number of messages up to the highest id at the start. The index has as many documents.
    messages: int
    #: The number of documents removed because they belong to no message.
    removed: int


class Incomplete(Exception):
    """The index lacks messages, or has too many, up to the highest id at the start."""


def reindex(backend: SearchBackend, progress: Callable[[int], object] = int) -> Outcome:
    """Makes the index equal to the database. Calls `progress` with the number of messages of each step.

    It may be stopped and run again at any time. Versions keep it from undoing what the outbox indexes meanwhile.
    Raises Incomplete; a backend that builds a new index keeps the old one in service then.
    """
    removed = 0
    with backend.rebuild() as target:
        # Read after the target began to receive what the outbox indexes. Everything later reaches it from there.
        last = _last_message_id()
        for low, high in _id_ranges(max(last, target.last_id())):
            # Read the index before the database. What the outbox had indexed by then was committed earlier, so the
            # database has it, in that version or a newer one.
            indexed = target.documents(low, high)
            documents = documents_in_range(low, high)
            removed += _remove_strangers(target, indexed, documents)
            missing = [each for each in documents if target.rebuilds_in_place or indexed.get(each.id) != each]
            progress(len(documents) - len(missing))
            for chunk in chunks(missing):
                target.index(chunk)
                progress(len(chunk))
        messages, held = _settled_counts(target, last)
        if messages != held:
            raise Incomplete(f"The index holds {held:,} documents for {messages:,} messages")
    return Outcome(messages, removed)


def _remove_strangers(target: SearchBackend, indexed: dict[int, Document], stored: list[Document]) -> int:
    """Removes documents without a message, and those newer than their message: a restored database leaves both."""
    versions = {document.id: document.version for document in stored}
    strangers = {id: document.version for id, document in indexed.items() if document.version > versions.get(id, -1)}
    if strangers:
        target.remove(strangers)
    return len(strangers)


def _settled_counts(target: SearchBackend, last: int) -> tuple[int, int]:
    """Returns the numbers of messages and documents up to `last`, once they are equal or PATIENCE is over."""
    deadline = time.monotonic() + PATIENCE
    while True:
        documents = target.count(last)
        messages = Message.objects.filter(pk__lte=last).count()
        if messages == documents or time.monotonic() > deadline:
            return messages, documents
        time.sleep(0.2)


@dataclass(frozen=True, slots=True)
class Difference:
    """A message that differs between the database and the index. None means that it is missing there."""

    id: int
    stored: Document | None
    indexed: Document | None

    def __str__(self) -> str:
        if self.indexed is None:
            return f"message {self.id} is not in the index"
        if self.stored is None:
            return f"message {self.id} is in the index and not in the database"
        if self.stored.version != self.indexed.version:
            return f"message {self.id} has version {self.stored.version}, and {self.indexed.version} in the index"
        return f"message {self.id} has another text in the index"


def differences(backend: SearchBackend) -> Iterator[Difference]:
    """Yields all differences, by id. During writes they include messages that are still on their way to the index."""
    for low, high in _id_ranges(max(_last_message_id(), backend.last_id())):
        # The index first: what it has was committed earlier, so a message missing from the database is no race.
        indexed = backend.documents(low, high)
        stored = {document.id: document for document in documents_in_range(low, high)}
        for id in sorted(indexed.keys() | stored.keys()):
            if indexed.get(id) != stored.get(id):
                yield Difference(id, stored.get(id), indexed.get(id))


def _id_ranges(last: int) -> Iterator[tuple[int, int]]:
    """Yields ranges (low, high] of primary keys from 1 to `last`."""
    for low in range(0, last, RANGE_SIZE):
        yield low, min(low + RANGE_SIZE, last)


def _last_message_id() -> int:
    return Message.objects.aggregate(last=Max("pk"))["last"] or 0
