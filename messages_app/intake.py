"""The web side of messages: writes on their way to the log. Documented in docs/write-log.md."""

from __future__ import annotations

from collections.abc import Sequence

from chats.selectors import last_message_number
from chatsystem.writelog.events import CREATE, UPDATE
from chatsystem.writelog.intake import Accepted, LastNumbers, RequestKey, accept
from chatsystem.writelog.log import Write


def create_message(token: str, chat_number: int, body: str, key: RequestKey | None = None) -> Accepted:
    return _create(token, chat_number, [body], key, shape="")


def create_batch(token: str, chat_number: int, bodies: Sequence[str], key: RequestKey | None = None) -> Accepted:
    """All of `bodies` or none, under one contiguous run of numbers that begins with the answer's."""
    return _create(token, chat_number, bodies, key, shape="batch")


def _create(token: str, chat_number: int, bodies: Sequence[str], key: RequestKey | None, shape: str) -> Accepted:
    write = Write(CREATE, f"{token}/{chat_number}", "", bodies)
    return accept(token, write, _stored(token, chat_number), key, shape=shape)


def update_message(token: str, chat_number: int, number: int, body: str, key: RequestKey | None = None) -> Accepted:
    write = Write(UPDATE, f"{token}/{chat_number}", str(number), [body])
    return accept(token, write, _stored(token, chat_number), key)


def _stored(token: str, chat_number: int) -> LastNumbers:
    return {f"{token}/{chat_number}": lambda: last_message_number(token, chat_number)}
