"""The web side of chats: writes on their way to the log. Documented in docs/write-log.md."""

from __future__ import annotations

from applications.selectors import last_chat_number
from chatsystem.writelog.events import CREATE, UPDATE
from chatsystem.writelog.intake import Accepted, RequestKey, accept
from chatsystem.writelog.log import Write


def create_chat(token: str, title: str, key: RequestKey | None = None) -> Accepted:
    return accept(token, Write(CREATE, token, "", [title], fertile=True), {token: lambda: last_chat_number(token)}, key)


def update_chat(token: str, number: int, title: str, key: RequestKey | None = None) -> Accepted:
    return accept(token, Write(UPDATE, token, str(number), [title]), {token: lambda: last_chat_number(token)}, key)
