"""Reads messages as acknowledged, drained or not. Documented in docs/write-log.md."""

from __future__ import annotations

from dataclasses import dataclass

from django.db.models import QuerySet

from chats.models import Chat
from chatsystem.writelog import reads
from chatsystem.writelog.exceptions import UnknownEntity
from chatsystem.writelog.reads import Children, Row, Window, children, overlay
from messages_app.models import Message

#: SQL, because Django would compile the query anew for each request: half of a GET's CPU time (docs/decisions.md).
MESSAGE = """
SELECT message.* FROM messages_app_message message
JOIN chats_chat chat ON chat.id = message.chat_id
JOIN applications_application application ON application.id = chat.application_id
WHERE application.token = %s AND chat.number = %s AND message.number = %s
"""


@dataclass(slots=True)
class MessageRow(Row):
    body: str = ""


def get_message(token: str, chat_number: int, number: int) -> Message:
    """Returns the message. It is unsaved when it is acknowledged but not stored yet. Raises UnknownEntity."""
    pending = reads.pending(token, f"{token}/{chat_number}/{number}")
    row = next(iter(Message.objects.raw(MESSAGE, [token, chat_number, number])), None)
    message = overlay(row, pending, "body", lambda created: Message(number=number, created_at=created))
    if message is None:
        raise UnknownEntity(f"{token}/{chat_number}/{number}")
    return message


def list_messages(token: str, chat_number: int, window: Window) -> Children[MessageRow]:
    """Returns the chat's messages in the window, whose `run` raises UnknownEntity."""

    def stored() -> QuerySet[Message] | None:
        chat = Chat.objects.filter(application__token=token, number=chat_number).first()
        return None if chat is None else Message.objects.filter(chat=chat).order_by("number")

    return children(token, f"{token}/{chat_number}", window, stored, MessageRow, "body")
