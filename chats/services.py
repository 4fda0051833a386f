"""Writes of chats: hands them to the write log. Documented in docs/write-log.md."""

from __future__ import annotations

from applications.selectors import last_chat_number
from chatsystem.writelog.append import Accepted, RequestKey, Write, append
from chatsystem.writelog.events import CREATE, UPDATE


def create_chat(token: str, title: str, key: RequestKey | None = None) -> Accepted:
    write = Write(CREATE, token, "", [title], can_have_children=True)
    return append(token, write, {token: lambda: last_chat_number(token)}, key)


def update_chat(token: str, number: int, title: str, key: RequestKey | None = None) -> Accepted:
    return append(token, Write(UPDATE, token, str(number), [title]), {token: lambda: last_chat_number(token)}, key)
