"""Accepts writes: `append` gives a write its numbers and puts it into the log. Documented in docs/write-log.md."""

from __future__ import annotations

import hashlib
import json
import logging
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import redis
from django.conf import settings

from chatsystem.writelog import ownership, reads
from chatsystem.writelog.events import UPDATE
from chatsystem.writelog.exceptions import (
    LogFull,
    LogUnavailable,
    OutcomeUnknown,
    RequestKeyReused,
    UnknownEntity,
)
from chatsystem.writelog.keys import Keys, partition_of
from chatsystem.writelog.redis_client import (
    ask_all,
    available,
    check_flags,
    group_of,
    pooled_connection,
    short_lock,
    wait_command,
)
from chatsystem.writelog.scripts import evaluate
from chatsystem.writelog.seeding import seed
from chatsystem.writelog.tasks import DRAIN_DELAY, drain_waiting

logger = logging.getLogger(__name__)

#: Seconds between the tries of one append whose answer was lost. All tries carry the same request key, so at most one
#: counts.
RETRY_DELAYS = (0.05, 0.25)

#: Answers of Redis itself: it did nothing. After any other error it may have executed the script.
REFUSALS = (redis.ResponseError, redis.BusyLoadingError)

#: How often one append does what its Redis lacks: it passes the fence, seeds a number, and renews a lease that ended
#: meanwhile, since a slow database may take longer than a lease.
ROUNDS = 3

#: Seconds for which an Idempotency-Key is remembered.
KEY_LIFETIME = 24 * 60 * 60
#: Seconds for which a request without one is remembered: longer than append, or a proxy in front, keeps retrying it.
REQUEST_LIFETIME = 60

#: Seconds between two hints: slightly less than DRAIN_DELAY, since the worker's clock may differ.
INTERVAL = DRAIN_DELAY - 0.1
#: Seconds without hints after the broker refused one. The sweep runs as often.
COOLDOWN = 2.0

#: For each parent path that a write depends on: a function that returns the highest number of its children in the
#: database, or None if the database does not hold the parent.
LastNumbers = dict[str, Callable[[], int | None]]


@dataclass(frozen=True, slots=True)
class RequestKey:
    """The identity of a request: recognises the request when it is sent again, within `lifetime` seconds.

    Each layer has one name for it. HTTP has the header Idempotency-Key, Python a RequestKey, and Redis the receipt: the
    key `{p}:receipt:…`, which stores the answer under a scope and this id.
    """

    id: str
    lifetime: int = REQUEST_LIFETIME
    #: Whether the response tells the client that its request was replayed.
    announced: bool = False

    @classmethod
    def of_client(cls, key: str) -> RequestKey:
        """From an Idempotency-Key."""
        return cls(f"key {key}", KEY_LIFETIME, announced=True)

    @classmethod
    def of_proxy(cls, key: str) -> RequestKey:
        """From the id that a proxy gives to a request that it may send twice."""
        return cls(f"proxy {key}")

    @classmethod
    def new(cls) -> RequestKey:
        """For a request that only append itself sends again."""
        return cls(secrets.token_hex(16))


@dataclass(frozen=True, slots=True)
class Write:
    """A write to be accepted: one event for each text. An empty `name` asks for the next numbers."""

    verb: str
    parent: str
    name: str
    texts: Sequence[str]
    #: Whether the created entity can have children.
    can_have_children: bool = False


@dataclass(frozen=True, slots=True)
class Accepted:
    """An acknowledged write: arrival (microseconds) and name of its first event. Each further event is one higher.

    Of a request that writes nothing: when it came first, and no name.
    """

    arrival: int
    name: str
    replayed: bool

    @property
    def number(self) -> int:
        return int(self.name)


def append(
    token: str,
    write: Write,
    last_numbers: LastNumbers,
    key: RequestKey | None = None,
    scope: str | None = None,
    shape: str = "",
) -> Accepted:
    """Accepts `write` at most once and hints a drain.

    `key` is unique per `scope`, by default the token. `shape` distinguishes requests that have the same texts and
    different answers, such as one message and an array of one.

    Raises `UnknownEntity`, `RequestKeyReused`, `LogFull` or `LogUnavailable` if nothing has happened, and
    `OutcomeUnknown` if the write may have been accepted.
    """
    key = key or RequestKey.new()
    keys = Keys(partition_of(token))

    def attempt() -> list[str]:
        return run_append(token, write, key, scope or token, shape)

    status, *answer = attempt()
    for _ in range(ROUNDS):
        if status not in ("fence", "lease", "seed"):
            break
        if status != "lease":
            _expect_known(token, last_numbers)
        # The Redis process is new, or no worker has confirmed it as the owner lately: that concerns the partition. An
        # unknown number concerns the application.
        missing, lock = status, keys.application_lock(token) if status == "seed" else keys.fence_lock
        with short_lock(keys.partition, lock):
            # The previous holder of the lock may have done what we need.
            status, *answer = attempt()
            if status == missing:
                if missing == "seed":
                    seed(keys.partition, last_numbers)
                else:
                    ownership.keep(group_of(keys.partition))
                status, *answer = attempt()
    match status:
        case "missing":
            raise UnknownEntity(f"{write.parent}/{write.name}")
        case "reused":
            raise RequestKeyReused
        case "full":
            raise LogFull
        case "fence" | "lease" | "seed":
            raise LogUnavailable("the state Redis changed again while it was seeded")
    arrival, name, *hint = answer
    if hint == ["1"]:
        hints.send(keys.partition)
    # Without an Idempotency-Key, 'again' answers a retry of our own or of a proxy.
    return Accepted(int(arrival), name, replayed=status == "again" and key.announced)


def remember(token: str, key: RequestKey, now: int, *what: str) -> Accepted:
    """Accepts a request that writes nothing, and returns when it came first: `now`, in microseconds, or earlier.

    `what` is what it asks for. Its receipt looks like that of a write, so the two refuse each other's keys. Raises
    `RequestKeyReused` or `LogUnavailable` if nothing has happened, and `OutcomeUnknown` if the key may be taken now.
    """
    partition = partition_of(token)
    fingerprint = _fingerprint(Write("", token, "", what), "")
    receipt = Keys(partition).receipt(token, key.id)
    connected = False
    try:
        with available(), pooled_connection(partition) as connection:
            connected = True
            command = ("SET", receipt, f"{fingerprint} {now} -", "NX", "GET", "EX", key.lifetime)
            (earlier,) = ask_all(connection, [command])
            _wait_for_replicas(connection, receipt, key.lifetime)
    except LogUnavailable as error:
        if connected and not isinstance(error.__cause__, REFUSALS):
            raise OutcomeUnknown(str(error)) from error
        raise
    if earlier is None:
        return Accepted(now, "", replayed=False)
    used_for, first, _ = earlier.split()
    if used_for != fingerprint:
        raise RequestKeyReused
    return Accepted(int(first), "", replayed=key.announced)


def _expect_known(token: str, last_numbers: LastNumbers) -> None:
    """Raises `UnknownEntity` for a parent that is neither pending nor stored.

    Clients can ask for any token. A made-up one must not cost a lock, nor leave a key in Redis.
    """
    for parent, last_number in last_numbers.items():
        # The pending view first: a drain could move the parent from there into the database between the two look-ups.
        pending = reads.pending(token, parent)
        if last_number() is None and pending is None:
            raise UnknownEntity(parent)


def run_append(token: str, write: Write, key: RequestKey, scope: str, shape: str = "") -> list[str]:
    """Runs append.lua, in up to three tries, and returns its answer: see there for the statuses.

    Raises `LogUnavailable` if nothing has happened, and `OutcomeUnknown` if a try was sent and never answered.
    """
    keys = Keys(partition_of(token))
    call_keys = [
        keys.numbers,
        keys.clock,
        keys.log,
        keys.pending,
        keys.hinted,
        keys.fence,
        keys.usage,
        keys.lease,
        keys.receipt(scope, key.id),
    ]
    arguments = [
        token,
        write.verb,
        write.parent,
        write.name,
        "1" if write.can_have_children else "0",
        _fingerprint(write, shape),
        key.lifetime,
        settings.WRITE_LOG_MAX_EVENTS,
        settings.WRITE_LOG_MAX_BYTES,
        *write.texts,
    ]
    unanswered = False
    for delay in (*RETRY_DELAYS, None):
        connected = False
        try:
            with available(), pooled_connection(keys.partition) as connection:
                connected = True
                answer = _evaluate_append(connection, keys.partition, call_keys, arguments)
            break
        except LogUnavailable as error:
            unanswered |= connected and not isinstance(error.__cause__, REFUSALS)
            if delay is None and unanswered:
                raise OutcomeUnknown(str(error)) from error
            if delay is None:
                raise
            time.sleep(delay)
    check_flags(behind=answer[0] == "behind", superseded=answer[0] == "superseded")
    return answer


def _evaluate_append(connection: Any, partition: int, keys: list[str], arguments: list[Any]) -> list[str]:
    """Runs append.lua once and waits for the replicas."""
    answer: list[str] = evaluate(connection, partition, "append", keys, arguments)
    if answer[0] in ("ok", "again"):
        _wait_for_replicas(connection, keys[-1], arguments[6])
    return answer


def _wait_for_replicas(connection: Any, receipt: str, lifetime: int) -> None:
    """Waits until REDIS_REPLICAS replicas have the receipt, and what this connection wrote before it.

    Raises `redis.TimeoutError` if too few have it, so that the caller retries. Raises `redis.ConnectionError` if Redis
    refuses WAIT: the write is in Redis by then, so this is no refusal of the write.
    """
    if not settings.REDIS_REPLICAS:
        return
    # WAIT counts the writes of its own connection, so it uses this one. For an older receipt EXPIRE is that write: a
    # replica that has the EXPIRE has the receipt too.
    try:
        _, replicas = ask_all(connection, [("EXPIRE", receipt, lifetime), wait_command()])
    except redis.ResponseError as error:
        raise redis.ConnectionError(str(error)) from error
    if replicas < settings.REDIS_REPLICAS:
        raise redis.TimeoutError(f"{replicas} of {settings.REDIS_REPLICAS} replicas have the write")


def _fingerprint(write: Write, shape: str) -> str:
    """Returns a hash that detects a different request under the same key.

    The token of a new application is not part of it, because each try draws a new token.
    """
    target = [write.name] if write.verb == UPDATE else []
    what = [write.verb, write.parent, shape, *target, *write.texts]
    return hashlib.sha256(json.dumps(what).encode()).hexdigest()[:32]


class Hints:
    """Asks the workers to drain what waits. A lost hint does no harm: the sweep follows within two seconds.

    One hint serves all events that reach a Redis before the hinted drain starts, so the process sends the next one
    after INTERVAL seconds. After a failed publish it sends none at all for COOLDOWN seconds, as a circuit breaker:
    an outage of the broker delays one request instead of all of them.
    """

    def __init__(self) -> None:
        #: Monotonic time of the next try.
        self.asks_at = 0.0
        #: Monotonic time of the next hint for each Redis, by the first partition that it serves.
        self.due: dict[int, float] = {}

    def send(self, partition: int) -> None:
        now = time.monotonic()
        if now < self.asks_at:
            return
        try:
            first = group_of(partition)[0]
            if now >= self.due.get(first, 0.0):
                self.due[first] = now + INTERVAL
                drain_waiting.delay(partition, time.time())
        except Exception as error:  # kombu raises whatever its transport raises
            logger.warning("no drain hinted for partition %d: %s", partition, error)
            self.asks_at = time.monotonic() + COOLDOWN


hints = Hints()
