"""Reads messages from the database as documents for the index. Documented in docs/search.md."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import reduce
from itertools import islice
from operator import or_

from django.db.models import Q

from chatsystem.writelog.events import to_datetime, to_micros
from messages_app.models import Message

#: The number of message numbers, and of chats, in one statement: SQLite limits the depth of an expression.
NUMBERS_AT_ONCE = 500
CHATS_AT_ONCE = 100

#: Bytes of text that are indexed at once. In the most expensive scripts half a megabyte takes one to three seconds.
#: Other applications' messages wait that long for each application that has long texts in the outbox.
CHUNK_BYTES = 500_000

FIELDS = (
    "pk",
    "last_request_time",
    "chat__application__token",
    "chat__number",
    "number",
    "body",
    "created_at",
)


@dataclass(frozen=True, slots=True)
class Document:
    """A whole message. Of two documents with the same id, the higher version wins.

    The version is the message's `last_request_time` in microseconds since 1970, which increases with every change.
    """

    id: int
    version: int
    application_token: str
    chat_number: int
    number: int
    body: str
    created_at: datetime

    @property
    def last_request_time(self) -> datetime:
        return to_datetime(self.version)


def text_size(document: Document) -> int:
    """Returns the size of the body in bytes."""
    return len(document.body.encode())


def chunks(documents: Iterable[Document]) -> Iterator[list[Document]]:
    """Yields the documents in order, in chunks of about CHUNK_BYTES."""
    chunk: list[Document] = []
    taken = 0
    for document in documents:
        chunk.append(document)
        taken += text_size(document)
        if taken >= CHUNK_BYTES:
            yield chunk
            chunk, taken = [], 0
    if chunk:
        yield chunk


def documents_in_range(low: int, high: int) -> list[Document]:
    """Returns the messages with `low` < primary key <= `high`."""
    rows = Message.objects.filter(pk__gt=low, pk__lte=high).order_by("pk").values_list(*FIELDS)
    return [_document(*row) for row in rows.iterator()]


def documents_by_number(numbers: Iterable[tuple[int, list[int]]]) -> dict[tuple[int, int], Document]:
    """Returns the messages of (chat id, numbers) pairs, by chat id and number. Deleted messages are left out."""
    found = {}
    conditions = (Q(_among(some), chat_id=chat_id) for chat_id, of_chat in numbers for some in _slices(of_chat))
    while some_chats := list(islice(conditions, CHATS_AT_ONCE)):
        rows = Message.objects.filter(reduce(or_, some_chats)).values_list("chat_id", *FIELDS)
        for chat_id, *row in rows.iterator():
            document = _document(*row)
            found[chat_id, document.number] = document
    return found


def _among(numbers: list[int]) -> Q:
    """Returns a range condition for consecutive numbers, which are the rule. The database then does one lookup."""
    low, high = min(numbers), max(numbers)
    return Q(number__range=(low, high)) if high - low + 1 == len(numbers) else Q(number__in=numbers)


def _slices(numbers: list[int]) -> Iterator[list[int]]:
    for start in range(0, len(numbers), NUMBERS_AT_ONCE):
        yield numbers[start : start + NUMBERS_AT_ONCE]


def _document(
    pk: int, changed: datetime, token: str, chat_number: int, number: int, body: str, created_at: datetime
) -> Document:
    return Document(pk, to_micros(changed), token, chat_number, number, body, created_at)
