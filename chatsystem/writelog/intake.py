"""Intake: how the web side hands a write over. Documented in docs/write-log.md."""

from __future__ import annotations

import hashlib
import json
import logging
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass

from chatsystem.writelog import log
from chatsystem.writelog.events import UPDATE
from chatsystem.writelog.keys import partition_of
from chatsystem.writelog.seed import pass_fence, seed
from chatsystem.writelog.state import LogUnavailable
from chatsystem.writelog.tasks import drain_partition

logger = logging.getLogger(__name__)

#: For each parent path that a write depends on: the last number of a child that the database holds, None for a parent
#: that is not stored.
LastNumbers = dict[str, Callable[[], int | None]]

#: Seconds for which a client's Idempotency-Key is kept.
KEY_LIFETIME = 24 * 60 * 60
#: Seconds for which a request without one is known: longer than append, or a proxy before us, goes on re-sending it.
REQUEST_LIFETIME = 60


#: Seconds for which a broker that took no hint is not asked again. The sweep comes as often.
COOLDOWN = 2.0


@dataclass(frozen=True, slots=True)
class RequestKey:
    """By what a request is recognised when it comes again, and for how many seconds."""

    id: str
    lifetime: int = REQUEST_LIFETIME
    #: Whether its sender is told that it came again.
    announced: bool = False

    @classmethod
    def of_client(cls, key: str) -> RequestKey:
        """An Idempotency-Key."""
        return cls(f"key {key}", KEY_LIFETIME, announced=True)

    @classmethod
    def of_proxy(cls, key: str) -> RequestKey:
        """What a proxy calls a request that it may send twice."""
        return cls(f"proxy {key}")

    @classmethod
    def new(cls) -> RequestKey:
        """For a request that nobody but append sends again."""
        return cls(secrets.token_hex(16))


@dataclass(frozen=True, slots=True)
class Accepted:
    """An acknowledged write: arrival, in microseconds, and name of its first event. The others follow one by one."""

    arrival: int
    name: str
    replayed: bool

    @property
    def number(self) -> int:
        return int(self.name)


def accept(
    token: str,
    write: log.Write,
    last_numbers: LastNumbers,
    key: RequestKey | None = None,
    scope: str | None = None,
    shape: str = "",
) -> Accepted:
    """Has `write` accepted, and hints a drain.

    `key` is kept per `scope` (the token when none is given). `shape` tells requests apart that bring the same texts and
    are answered differently, such as a message and an array of one.
    Raises `UnknownEntity`, `RequestIdReused`, `LogFull` or `LogUnavailable`; then nothing has happened. But for
    `OutcomeUnknown`: then it may have.
    """
    key = key or RequestKey.new()
    request_id = log.RequestId(scope or token, key.id, _fingerprint(write, shape), key.lifetime)
    answer = log.append(token, write, request_id)
    if answer.status in ("fence", "seed"):
        answer = _seed_and_append(token, write, request_id, last_numbers)
    match answer.status:
        case "missing":
            raise log.UnknownEntity(f"{write.parent}/{write.name}")
        case "reused":
            raise log.RequestIdReused
        case "full":
            raise log.LogFull
        case "fence" | "seed":
            raise LogUnavailable("the state Redis changed again while it was seeded")
    if answer.hint:
        hints.send(partition_of(token))
    # Without a key of the client's, 'again' answers our own re-send, or a proxy's.
    return Accepted(answer.arrival, answer.name, replayed=answer.status == "again" and key.announced)


def _seed_and_append(token: str, write: log.Write, request_id: log.RequestId, last_numbers: LastNumbers) -> log.Answer:
    # Anyone can ask for any token: an entity that is neither pending nor stored costs no lock and leaves no key. Asked
    # for in this order, since one that is stored meanwhile leaves the pending view for the database.
    for parent, last_number in last_numbers.items():
        pending = log.pending(token, parent)
        if last_number() is None and pending is None:
            raise log.UnknownEntity(parent)
    partition = partition_of(token)
    with log.seeding(partition):
        # Whoever held the lock before us may have done what we need.
        answer = log.append(token, write, request_id)
        if answer.status == "fence":
            pass_fence(partition)
            answer = log.append(token, write, request_id)
        if answer.status == "seed":
            seed(partition, last_numbers)
            answer = log.append(token, write, request_id)
    return answer


def _fingerprint(write: log.Write, shape: str) -> str:
    """Tells another request under the same key. A created application's token is not part: each try makes a new one."""
    target = [write.name] if write.verb == UPDATE else []
    what = [write.verb, write.parent, shape, *target, *write.texts]
    return hashlib.sha256(json.dumps(what).encode()).hexdigest()[:32]


class Hints:
    """Asks workers to drain now. A hint that cannot be sent is not missed: the sweep comes within two seconds."""

    def __init__(self) -> None:
        #: Of the monotonic clock: when the broker may be asked again. Each of its connections that has gone silent, of
        #: one for each thread, would keep a request waiting.
        self.asks_at = 0.0

    def send(self, partition: int) -> None:
        if time.monotonic() < self.asks_at:
            return
        try:
            drain_partition.delay(partition, time.time())
        except Exception as error:  # kombu raises whatever its transport raises
            logger.warning("no drain hinted for partition %d: %s", partition, error)
            self.asks_at = time.monotonic() + COOLDOWN


hints = Hints()
