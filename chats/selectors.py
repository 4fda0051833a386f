"""Reads chats as acknowledged, drained or not. Documented in docs/write-log.md."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from django.db.models import QuerySet

from applications.models import Application
from chats.models import Chat
from chatsystem.writelog import reads
from chatsystem.writelog.bulk import numbered
from chatsystem.writelog.exceptions import UnknownEntity
from chatsystem.writelog.reads import Children, Row, Window, all_pending, children, overlay


@dataclass(slots=True)
class ChatRow(Row):
    title: str = ""
    messages_count: int = 0


def get_chat(token: str, number: int) -> Chat:
    """Returns the chat. It is unsaved when it is acknowledged but not stored yet. Raises UnknownEntity."""
    pending = reads.pending(token, f"{token}/{number}")
    row = Chat.objects.filter(application__token=token, number=number).first()
    chat = overlay(row, pending, "title", lambda created: Chat(number=number, created_at=created))
    if chat is None:
        raise UnknownEntity(f"{token}/{number}")
    return chat


def existing_chats(token: str, numbers: Sequence[int]) -> set[int]:
    """Returns those of the numbers that are chats of the application, stored or not."""
    pending = all_pending(token, [f"{token}/{number}" for number in numbers])
    stored = Chat.objects.filter(application__token=token, number__in=numbers).values_list("number", flat=True)
    return {*stored, *(number for number, of in zip(numbers, pending, strict=True) if of and of.created is not None)}


def list_chats(token: str, window: Window) -> Children[ChatRow]:
    """Returns the application's chats in the window, whose `run` raises UnknownEntity."""

    def stored() -> QuerySet[Chat] | None:
        application = Application.objects.filter(token=token).first()
        return None if application is None else Chat.objects.filter(application=application).order_by("number")

    return children(token, token, window, stored, ChatRow, "title")


def last_message_number(token: str, number: int) -> int | None:
    """Returns the highest stored number of the chat's messages, or None when the chat is not stored."""
    chat = Chat.objects.filter(application__token=token, number=number).first()
    if chat is None:
        return None
    newest = chat.messages.order_by("-number").values_list("number", flat=True).first()
    return newest or 0


def stored_chats(paths: set[str]) -> dict[str, tuple[int, int]]:
    """Maps the path of each stored chat to its primary key and its application's."""
    by_token: dict[str, list[int]] = defaultdict(list)
    for path in paths:
        token, number = path.split("/")
        by_token[token].append(int(number))
    tokens = dict(Application.objects.filter(token__in=by_token).values_list("pk", "token"))
    numbers = {application_id: by_token[token] for application_id, token in tokens.items()}
    return {
        f"{tokens[application_id]}/{number}": (chat_id, application_id)
        for chats in numbered(Chat, "application", numbers)
        for application_id, number, chat_id in chats.values_list("application_id", "number", "pk")
    }
