"""Filling the index from the database while writes go on. Documented in docs/search.md."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from messages_app.models import Message
from search.backends.base import SearchBackend
from search.comparison import last_message_id, strides
from search.documents import Document, of_range

#: Seconds that the count is given to become right: a message below the last one may have been committed after it.
PATIENCE = 10.0


@dataclass(frozen=True, slots=True)
class Outcome:
    #: Messages with an id up to the highest one at the start, which are as many as the index holds.
    messages: int
    #: Documents that were taken out because they are of no message.
    removed: int


class Incomplete(Exception):
    """The index does not hold what the database does, up to the message that was the last one at the start."""


def reindex(backend: SearchBackend, progress: Callable[[int], object] = int) -> Outcome:
    """Makes the index equal to the database, calling `progress` with the number of messages of each step.

    It may be stopped and run again at any time. Versions keep it from undoing what the outbox does meanwhile.
    Raises Incomplete, with the old index left in service where the backend has one.
    """
    removed = 0
    with backend.rebuild() as target:
        # Read once the target takes what the outbox writes: everything later reaches it from there.
        last = last_message_id()
        for low, high in strides(1, max(last, target.last_id())):
            # The index is read before the database. What the outbox has put into it was committed before that, so the
            # later reading finds it, at that version or a newer one.
            indexed = target.documents(low, high)
            documents = of_range(low, high)
            removed += _remove_strangers(target, indexed, documents)
            target.index([each for each in documents if target.rebuilds_in_place or indexed.get(each.id) != each])
            progress(len(documents))
        messages, held = _settled_counts(target, last)
        if messages != held:
            raise Incomplete(f"The index holds {held:,} documents for {messages:,} messages")
    return Outcome(messages, removed)


def _remove_strangers(target: SearchBackend, indexed: dict[int, Document], stored: list[Document]) -> int:
    """Removes the documents that are of no message, or newer than theirs: left by a database that was put back."""
    versions = {document.id: document.version for document in stored}
    strangers = {id: document.version for id, document in indexed.items() if document.version > versions.get(id, -1)}
    if strangers:
        target.remove(strangers)
    return len(strangers)


def _settled_counts(target: SearchBackend, last: int) -> tuple[int, int]:
    """The numbers of messages and documents up to `last`, equal if they become so within PATIENCE."""
    deadline = time.monotonic() + PATIENCE
    while True:
        documents = target.count(last)
        messages = Message.objects.filter(pk__lte=last).count()
        if messages == documents or time.monotonic() > deadline:
            return messages, documents
        time.sleep(0.2)
