"""Events as clients see them: the representation of a chat or a message after a change."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from applications.models import Application
from chats.models import Chat
from chats.selectors import ChatRow, stored_chats
from chats.serializers import ChatSerializer
from chatsystem.writelog.bulk import numbered
from chatsystem.writelog.events import depth, to_datetime, to_micros
from chatsystem.writelog.tail import Entry
from messages_app.models import Message
from messages_app.selectors import MessageRow
from messages_app.serializers import MessageSerializer

CHAT = "chat"
MESSAGE = "message"

Row = ChatRow | MessageRow

_serialize_chat = ChatSerializer().to_representation
_serialize_message = MessageSerializer().to_representation


class LiveEvent(NamedTuple):
    """A chat or message that was created or changed. `data` is its representation, as one line of JSON."""

    arrival: int
    token: str
    #: The number of the chat, also if the event is the chat's own.
    chat: int
    #: CHAT or MESSAGE.
    kind: str
    data: bytes


def event_of(parent: str, row: Row) -> LiveEvent:
    """Returns the event of the row's last change. `parent` is the path of its parent."""
    arrival = to_micros(row.last_request_time)
    token, _, chat = parent.partition("/")
    if isinstance(row, ChatRow):
        data = _serialize_chat(row)
        # The count lags, and would be wrong in an event that arrives before the messages.
        del data["messages_count"]
        return LiveEvent(arrival, token, row.number, CHAT, _encode(data))
    return LiveEvent(arrival, token, int(chat), MESSAGE, _encode({"chat_number": int(chat), **_serialize_message(row)}))


def _encode(data: Mapping[str, Any]) -> bytes:
    return json.dumps(data, ensure_ascii=False, separators=(",", ":")).encode()


def events_of(entries: Sequence[Entry]) -> list[LiveEvent]:
    """Returns the events of the log's entries, in their order. Those of applications are left out.

    Asks the database for the creation times that the log does not know. An entity that neither knows is left out too:
    it was discarded, and no read shows it any more.
    """
    unknown: dict[str, list[int]] = defaultdict(list)
    for entry in entries:
        parent, _, name = entry.path.rpartition("/")
        if entry.created is None and parent:
            unknown[parent].append(int(name))
    created = {f"{parent}/{row.number}": row.created_at for parent, row in stored_rows(unknown)}
    events = []
    for entry in entries:
        parent, _, name = entry.path.rpartition("/")
        began = created.get(entry.path) if entry.created is None else to_datetime(entry.created)
        if parent and began:
            row = row_of(entry.path)(int(name), began, to_datetime(entry.arrival))
            show(row, entry.text)
            events.append(event_of(parent, row))
    return events


def row_of(path: str) -> type[Row]:
    """Returns the type of the entity's row."""
    return ChatRow if depth(path) == 1 else MessageRow


def show(row: Row, text: str) -> None:
    """Sets the row's text."""
    setattr(row, "title" if isinstance(row, ChatRow) else "body", text)


def stored_rows(numbers: Mapping[str, Iterable[int]]) -> Iterator[tuple[str, Row]]:
    """Yields the stored chats and messages: `numbers` maps the path of a parent to the numbers of its children."""
    tokens = {parent: list(of_parent) for parent, of_parent in numbers.items() if depth(parent) == 0}
    paths = {parent: list(of_parent) for parent, of_parent in numbers.items() if depth(parent) == 1}
    # Django would compile a query that asks for nothing before it leaves it out.
    if tokens:
        yield from _chat_rows(tokens)
    if paths:
        yield from _message_rows(paths)


def _chat_rows(numbers: Mapping[str, Sequence[int]]) -> Iterator[tuple[str, ChatRow]]:
    applications = dict(Application.objects.filter(token__in=numbers).values_list("pk", "token"))
    of_applications = {pk: numbers[token] for pk, token in applications.items()}
    for chats in numbered(Chat, "application", of_applications):
        titles = chats.values_list("application_id", "number", "created_at", "last_request_time", "title")
        for pk, number, created_at, last_request_time, title in titles:
            yield applications[pk], ChatRow(number, created_at, last_request_time, title)


def _message_rows(numbers: Mapping[str, Sequence[int]]) -> Iterator[tuple[str, MessageRow]]:
    paths = {chat_id: path for path, (chat_id, _) in stored_chats(set(numbers)).items()}
    for messages in numbered(Message, "chat", {chat_id: numbers[path] for chat_id, path in paths.items()}):
        bodies = messages.values_list("chat_id", "number", "created_at", "last_request_time", "body")
        for pk, number, created_at, last_request_time, body in bodies:
            yield paths[pk], MessageRow(number, created_at, last_request_time, body)
