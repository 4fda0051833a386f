"""The exceptions of the write log. Each `LogUnavailable` is a 503 of the API."""

from __future__ import annotations

import re

import redis
from django.conf import settings

#: Beginnings of Redis's errors for a command or key that the user may not use: outside scripts, and inside scripts of
#: Redis 7.2 and later, and of Redis 7.0.
NOT_PERMITTED = ("unknown command", "Unknown Redis command", "ACL failure", "The user executing the script can't")


class LogUnavailable(Exception):
    """The state Redis is down, loading or full. The write was not accepted."""


class NotPermitted(LogUnavailable):
    """The user of the state Redis may not run a command: an ACL forbids it, or a managed service renamed it.

    The text names the missing right. It does not repeat Redis's own text, which contains the user's name.
    """

    @classmethod
    def from_redis(cls, error: redis.ResponseError) -> NotPermitted | None:
        """Returns the exception for an error of Redis; None for an error of another kind."""
        text = str(error)
        if not isinstance(error, redis.exceptions.NoPermissionError) and not text.startswith(NOT_PERMITTED):
            return None
        if re.search(r"access .*\bkeys?\b", text):
            return cls("the state Redis's user may not use the keys of the write log: grant it ~{*}:*")
        named = re.search(r"'([\w|]+)' command", text) or re.search(r"unknown command ['`]([\w|]+)", text)
        right = f"run {named[1].upper()}: grant it +{named[1].lower()}" if named else "do this: /health/ready names it"
        return cls(f"the state Redis's user may not {right}")


class OutcomeUnknown(LogUnavailable):
    """Redis received the write and never answered. The write may be accepted, now or once Redis wakes up."""


class LogFull(LogUnavailable):
    """The log holds as many events of the application as it may."""


class DatabaseBehind(LogUnavailable):
    """The database lost rows that it had committed. Reads and writes stop until it is repaired (rollback_guard.py)."""


class Superseded(LogUnavailable):
    """The database takes events from another Redis. Reads and writes through this one stop (ownership.py)."""


class Unreplicated(LogUnavailable):
    """Fewer than REDIS_REPLICAS replicas hold the data of this Redis. A failover could lose it."""

    def __init__(self) -> None:
        super().__init__(
            f"fewer than REDIS_REPLICAS={settings.REDIS_REPLICAS} replicas have what the state Redis holds"
        )


class UnknownEntity(LookupError):
    """The parent of the write, or the entity to update, was never acknowledged."""


class RequestKeyReused(Exception):
    """The request key was used before, for a different request."""
