"""The web side of applications: writes on their way to the log. Documented in docs/write-log.md."""

from __future__ import annotations

import secrets

from applications.selectors import last_chat_number
from chatsystem.writelog.events import CREATE, UPDATE
from chatsystem.writelog.intake import Accepted, RequestKey, accept
from chatsystem.writelog.keys import partition_of
from chatsystem.writelog.log import Write

#: The idempotency keys of POST /applications are the server's: there is no application yet that could own them.
SERVER = "server"


def create_application(name: str, key: RequestKey | None = None) -> Accepted:
    """The new application's token is the answer's `name`."""
    token = _new_token(key)
    # It depends on no number: an application is not numbered, and its parent, the server, is always there.
    return accept(token, Write(CREATE, "", token, [name], fertile=True), {}, key, scope=SERVER)


def update_application(token: str, name: str, key: RequestKey | None = None) -> Accepted:
    return accept(token, Write(UPDATE, "", token, [name]), {token: lambda: last_chat_number(token)}, key)


def _new_token(key: RequestKey | None) -> str:
    """128 random bits in hex.

    With a key, the token is drawn until it falls into the key's partition: there a repeated request finds the receipt
    of the first one, in the script that would otherwise accept it again.
    """
    token = secrets.token_hex(16)
    while key is not None and partition_of(token) != partition_of(key.id):
        token = secrets.token_hex(16)
    return token
