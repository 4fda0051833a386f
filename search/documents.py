"""What the index holds of a message, and how it is read from the database. Documented in docs/search.md."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import reduce
from itertools import islice
from operator import or_

from django.db.models import Q, QuerySet

from chatsystem.writelog.arrival import to_datetime, to_micros
from messages_app.models import Message

#: Numbers, and chats, that one statement asks for: SQLite's expressions have a depth limit.
NUMBERS_AT_ONCE = 500
CHATS_AT_ONCE = 100

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
    """A whole message. Of two documents of one id the one with the higher version is the truth.

    The version is the message's `last_request_time` in microseconds since 1970, strictly higher with every change.
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


def of_range(low: int, high: int) -> list[Document]:
    """The messages with `low` < primary key <= `high`."""
    return list(_documents(Message.objects.filter(pk__gt=low, pk__lte=high).order_by("pk")))


def of_ids(ids: Iterable[int]) -> list[Document]:
    return list(_documents(Message.objects.filter(pk__in=list(ids))))


def of_numbers(numbers: Iterable[tuple[int, list[int]]]) -> Iterator[Document]:
    """The messages of an outbox: (chat id, numbers) pairs. One that is gone is left out."""
    conditions = (Q(_among(some), chat_id=chat_id) for chat_id, of_chat in numbers for some in _chunks(of_chat))
    while some_chats := list(islice(conditions, CHATS_AT_ONCE)):
        yield from _documents(Message.objects.filter(reduce(or_, some_chats)))


def _among(numbers: list[int]) -> Q:
    """A run by its ends, as what was posted is one: the database looks for it once, and not for each of its numbers."""
    low, high = min(numbers), max(numbers)
    return Q(number__range=(low, high)) if high - low + 1 == len(numbers) else Q(number__in=numbers)


def _chunks(numbers: list[int]) -> Iterator[list[int]]:
    for start in range(0, len(numbers), NUMBERS_AT_ONCE):
        yield numbers[start : start + NUMBERS_AT_ONCE]


def _documents(messages: QuerySet[Message]) -> Iterator[Document]:
    for pk, changed, token, chat_number, number, body, created_at in messages.values_list(*FIELDS).iterator():
        yield Document(pk, to_micros(changed), token, chat_number, number, body, created_at)
