"""Writes of applications: hands them to the write log. Documented in docs/write-log.md."""

from __future__ import annotations

import secrets

from applications.selectors import last_chat_number
from chatsystem.writelog.append import Accepted, RequestKey, Write, append
from chatsystem.writelog.events import CREATE, UPDATE
from chatsystem.writelog.keys import partition_of

#: Scope of the request keys of POST /applications: no application exists yet that could own them.
SERVER = "server"


def create_application(name: str, key: RequestKey | None = None) -> Accepted:
    """Creates an application. The result's `name` is the new token."""
    token = _new_token(key)
    # Depends on no number: applications are not numbered, and their parent, the server, always exists.
    return append(token, Write(CREATE, "", token, [name], can_have_children=True), {}, key, scope=SERVER)


def update_application(token: str, name: str, key: RequestKey | None = None) -> Accepted:
    return append(token, Write(UPDATE, "", token, [name]), {token: lambda: last_chat_number(token)}, key)


def _new_token(key: RequestKey | None) -> str:
    """Returns 128 random bits in hex.

    With a key, draws until the token falls into the key's partition. There append.lua finds the receipt of a repeated
    request, although each try has a new token.
    """
    token = secrets.token_hex(16)
    while key is not None and partition_of(token) != partition_of(key.id):
        token = secrets.token_hex(16)
    return token
