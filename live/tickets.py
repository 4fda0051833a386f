"""Tickets: short-lived keys with which a browser reads events. Documented in docs/live.md.

A ticket is `<token's hash>.<partition>.<expiry>.<chats>.<signature>`, all in characters that need no encoding in a URL.
Its bearer can read it, so it holds no token. It is stored nowhere: a ticket is verified by its signature alone, and
cannot be revoked singly.
"""

from __future__ import annotations

import hashlib
import math
import re
import time
from datetime import datetime, timezone
from typing import NamedTuple

from django.core.signing import BadSignature, Signer

from chatsystem.writelog.keys import PARTITIONS, partition_of

#: Part of what is signed. A cursor, a session or a ticket of another format is not signed with it.
SALT = "live.ticket.1"
#: In the place of the chats: the ticket is for the whole application.
WHOLE_APPLICATION = "all"
CONTENT = re.compile(r"([0-9a-f]{32})\.([0-9]{1,2})\.([0-9]{1,12})\.(all|[0-9]+(?:-[0-9]+)*)", re.ASCII)


class Invalid(Exception):
    """This is no ticket, it is signed with another key or for another purpose, or it has expired."""


class Ticket(NamedTuple):
    """What a ticket grants: the events of one application, or of some of its chats, until it expires."""

    partition: int
    #: Of the application's token, as `token_hash` returns it.
    token_hash: str
    #: The chats' numbers; None for the whole application, its chats included.
    chats: frozenset[int] | None
    expires_at: datetime


def token_hash(token: str) -> str:
    """Returns 32 lowercase hex characters that identify the token and do not reveal it.

    A token has 128 random bits, so nobody finds it by trying. The hash looks like a token, so no log line holds it.
    """
    return hashlib.sha256(f"{SALT} {token}".encode()).hexdigest()[:32]


def issue(token: str, chats: frozenset[int] | None, ttl: int, at: float | None = None) -> tuple[str, datetime]:
    """Returns a ticket that is valid for `ttl` seconds (rounded up to a whole second), and when it expires.

    `chats` are numbers of existing chats of the application; None grants the whole application. The ticket begins at
    `at`, by `time.time()`, or now: the same arguments give the same ticket.
    """
    expires = math.ceil(time.time() if at is None else at) + ttl
    content = f"{token_hash(token)}.{partition_of(token)}.{expires}.{written(chats)}"
    return _signer().sign(content), _moment(expires)


def written(chats: frozenset[int] | None) -> str:
    """Returns the chats as a ticket names them."""
    return WHOLE_APPLICATION if chats is None else "-".join(map(str, sorted(chats)))


def verify(ticket: str) -> Ticket:
    """Returns what the ticket grants. Raises `Invalid`. Asks neither the database nor Redis."""
    if not ticket.isascii():
        # The signature is computed of UTF-8, which a lone surrogate has not.
        raise Invalid("not a ticket")
    try:
        content = _signer().unsign(ticket)
    except BadSignature:
        raise Invalid("not a ticket, or signed with another key") from None
    found = CONTENT.fullmatch(content)
    if found is None or int(found[2]) >= PARTITIONS:
        raise Invalid("a ticket of another version")
    expires = int(found[3])
    if expires <= time.time():
        raise Invalid("expired")
    chats = None if found[4] == WHOLE_APPLICATION else frozenset(map(int, found[4].split("-")))
    return Ticket(int(found[2]), found[1], chats, _moment(expires))


def _signer() -> Signer:
    """Signs with SECRET_KEY."""
    return Signer(salt=SALT, sep=".")


def _moment(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, timezone.utc)
