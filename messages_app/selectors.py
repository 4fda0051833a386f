"""Reading messages, as acknowledged. Documented in docs/write-log.md."""

from __future__ import annotations

from dataclasses import dataclass

from django.db.models import QuerySet
from rest_framework.exceptions import NotFound

from chats.models import Chat
from chatsystem.writelog import log
from chatsystem.writelog.reads import Children, Row, Window, children, overlay
from messages_app.models import Message


@dataclass(slots=True)
class MessageRow(Row):
    body: str = ""


def get_message(token: str, chat_number: int, number: int) -> Message:
    """The message; unsaved when it is acknowledged and not yet stored. Raises NotFound."""
    pending = log.pending(token, f"{token}/{chat_number}/{number}")
    row = Message.objects.filter(chat__application__token=token, chat__number=chat_number, number=number).first()
    message = overlay(row, pending, "body", lambda created: Message(number=number, created_at=created))
    if message is None:
        raise NotFound
    return message


def list_messages(token: str, chat_number: int, window: Window) -> Children[MessageRow]:

    def stored() -> QuerySet[Message] | None:
        chat = Chat.objects.filter(application__token=token, number=chat_number).first()
        return None if chat is None else Message.objects.filter(chat=chat).order_by("number")

    return children(token, f"{token}/{chat_number}", window, stored, MessageRow, "body")
