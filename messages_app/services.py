"""Writes of messages: hands them to the write log. Documented in docs/write-log.md."""

from __future__ import annotations

from collections.abc import Sequence

from chats.selectors import last_message_number
from chatsystem.writelog.append import Accepted, LastNumbers, RequestKey, Write, append
from chatsystem.writelog.events import CREATE, UPDATE


def create_message(token: str, chat_number: int, body: str, key: RequestKey | None = None) -> Accepted:
    return _create(token, chat_number, [body], key, shape="")


def create_batch(token: str, chat_number: int, bodies: Sequence[str], key: RequestKey | None = None) -> Accepted:
    """Creates all messages or none, with consecutive numbers that start at the result's."""
    return _create(token, chat_number, bodies, key, shape="batch")


def _create(token: str, chat_number: int, bodies: Sequence[str], key: RequestKey | None, shape: str) -> Accepted:
    write = Write(CREATE, f"{token}/{chat_number}", "", bodies)
    return append(token, write, _stored(token, chat_number), key, shape=shape)


def update_message(token: str, chat_number: int, number: int, body: str, key: RequestKey | None = None) -> Accepted:
    write = Write(UPDATE, f"{token}/{chat_number}", str(number), [body])
    return append(token, write, _stored(token, chat_number), key)


def _stored(token: str, chat_number: int) -> LastNumbers:
    return {f"{token}/{chat_number}": lambda: last_message_number(token, chat_number)}
