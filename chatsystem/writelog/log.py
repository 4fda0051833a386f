"""The write log: accepts, holds and forgets events. Documented in docs/write-log.md.

What is acknowledged is in the log or in the database; both are asked in that order, since an event leaves the log only
after the database has committed it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import redis
from django.conf import settings

from chatsystem.writelog import work
from chatsystem.writelog.events import Event
from chatsystem.writelog.keys import BEHIND, Keys, partition_of
from chatsystem.writelog.state import LogUnavailable, available, client, evaluate, now, of_all, pooled_connection, run

#: Seconds between the tries of one append whose answer was lost. Each bears the same request id: at most one counts.
RETRY_DELAYS = (0.05, 0.25)

#: Events that Redis forgets by one command, which takes it some 3 ms.
REMOVED_AT_ONCE = 500

#: Seconds for which a process that seeds is believed to be alive.
SEEDING_LEASE = 3

#: Errors that are Redis's own answer: it has done nothing. Behind the others it may have done what it was asked.
REFUSALS = (redis.ResponseError, redis.BusyLoadingError)


class OutcomeUnknown(LogUnavailable):
    """The state Redis was asked to accept the write and never answered: it may have, or may still when it wakes up."""


class LogFull(LogUnavailable):
    """The log holds as much of the application as it may."""


class DatabaseBehind(LogUnavailable):
    """The database lost what it had stored. Nothing is accepted or read until it is looked at: see behind.py."""


class UnknownEntity(LookupError):
    """The write's parent, or the entity to update, was never acknowledged."""


class RequestIdReused(Exception):
    """The request id belongs to another request."""


@dataclass(frozen=True, slots=True)
class RequestId:
    """What makes a repeated request recognisable: its id within a scope, kept for `lifetime` seconds."""

    scope: str
    id: str
    fingerprint: str
    lifetime: int


@dataclass(frozen=True, slots=True)
class Write:
    """A write that wants to be accepted: one event for each text. An empty `name` asks for the next numbers."""

    verb: str
    parent: str
    name: str
    texts: Sequence[str]
    fertile: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """append's answer. `arrival` and `name` are those of the first event; the others follow one by one."""

    status: str
    arrival: int = 0
    name: str = ""
    hint: bool = False


@dataclass(frozen=True, slots=True)
class Pending:
    """The newest acknowledged text of an entity. `created` is None when the pending writes hold no create."""

    arrival: int
    created: int | None
    text: str

    @classmethod
    def parse(cls, value: str | None) -> Pending | None:
        if value is None:
            return None
        arrival, created, text = value.split(" ", 2)
        return cls(int(arrival), None if created == "-" else int(created), text)

    def __str__(self) -> str:
        return f"{self.arrival} {'-' if self.created is None else self.created} {self.text}"


@dataclass(frozen=True, slots=True)
class PendingChildren:
    """`last` is the last number given, None when it is not known here; `values` has an entry for each number asked for.

    `version` is another as soon as anything about the parent's children has changed; None when that cannot be told.
    """

    last: int | None
    version: str | None
    values: list[Pending | None]


@dataclass(frozen=True, slots=True)
class Left:
    """What a partition's log holds. `hinted` tells that a drain was asked for which has not begun."""

    events: int
    hinted: bool


def append(token: str, write: Write, request_id: RequestId) -> Answer:
    """Has `write` accepted at most once, in several tries; see append.lua for the statuses.

    Raises `LogUnavailable` when nothing has happened, and `OutcomeUnknown` when a try was sent and never answered.
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
        keys.receipt(request_id.scope, request_id.id),
    ]
    arguments = [
        token,
        write.verb,
        write.parent,
        write.name,
        "1" if write.fertile else "0",
        request_id.fingerprint,
        request_id.lifetime,
        settings.WRITE_LOG_MAX_EVENTS,
        settings.WRITE_LOG_MAX_BYTES,
        *write.texts,
    ]
    unanswered = False
    for delay in (*RETRY_DELAYS, None):
        connected = False
        try:
            with available(), pooled_connection() as connection:
                connected = True
                status, *rest = _append(connection, call_keys, arguments)
            break
        except LogUnavailable as error:
            unanswered |= connected and not isinstance(error.__cause__, REFUSALS)
            if delay is None and unanswered:
                raise OutcomeUnknown(str(error)) from error
            if delay is None:
                raise
            time.sleep(delay)
    if status == "behind":
        raise DatabaseBehind
    if not rest:
        return Answer(status)
    return Answer(status, int(rest[0]), rest[1], hint=rest[2:] == ["1"])


def _append(connection: Any, keys: list[str], arguments: list[Any]) -> list[str]:
    """Raises `redis.TimeoutError` when too few replicas have the write: then it is asked for again."""
    answer = evaluate(connection, "append", keys, arguments)
    if settings.REDIS_REPLICAS and answer[0] in ("ok", "again"):
        # On the same connection, since WAIT is documented to wait for what its own connection has written. For a
        # receipt that was there before, that is the EXPIRE: where it has arrived, so has the receipt.
        expire = ("EXPIRE", keys[-1], arguments[6])
        wait = ("WAIT", settings.REDIS_REPLICAS, int(settings.REDIS_TIMEOUT * 1000) // 2)
        connection.send_packed_command(connection.pack_commands([expire, wait]))
        connection.read_response()
        replicas = connection.read_response()
        if replicas < settings.REDIS_REPLICAS:
            raise redis.TimeoutError(f"{replicas} of {settings.REDIS_REPLICAS} replicas have the write")
    return answer


def pass_fence(partition: int, drained_through: int) -> bool:
    """Lets this Redis process pass the fence; whether its numbers count as they are. The caller holds the row lock."""
    keys = Keys(partition)
    return run("pass", [keys.fence, keys.clock], [drained_through]) == "kept"


def seed(partition: int, parent: str, last_number: int) -> None:
    """Lets append number `parent`'s children from `last_number` on. The caller holds the partition's row lock."""
    keys = Keys(partition)
    run("seed", [keys.numbers, keys.fence], [parent, last_number])


@contextmanager
def seeding(partition: int) -> Iterator[None]:
    """One process at a time compares the partition with the database.

    It saves work; the row lock keeps it right. So who has waited for long goes on without: a process may have been
    killed that held it.
    """
    lock = client().lock(Keys(partition).seeding, timeout=SEEDING_LEASE, sleep=0.02, blocking_timeout=SEEDING_LEASE)
    with available():
        acquired = lock.acquire()
    try:
        yield
    finally:
        # The lease may have run out, or Redis gone: either way it is free again.
        if acquired:
            with suppress(redis.RedisError):
                lock.release()


def read(partition: int, count: int) -> list[Event]:
    """The oldest `count` events of the partition."""
    with available():
        entries = client().xrange(Keys(partition).log, count=count)
    return [Event(_arrival(id), verb, path, text) for id, (_, verb, _, path, _, text) in entries]


def _arrival(id: str) -> int:
    """Of an entry of the log."""
    return int(id.removesuffix("-0"))


def remove(
    partition: int,
    through: int,
    events: Sequence[Event],
    dead: Collection[int] = (),
    seconds: float | None = None,
) -> Left:
    """Forgets `events`, which the database has committed: in the log up to `through`, and in the pending view.

    Those whose arrival is in `dead` stay in the view: their text is stored nowhere else that reads look. `seconds` is
    how long their drain took, if it was one.
    """
    of_drain = () if seconds is None else work.of_drain(seconds, len(events))
    # Part by part, since Redis serves nobody else during each. The drain is counted with the first: when this process
    # dies in between, the next one counts what is left once more, and nothing is left out.
    for start in range(0, len(events), REMOVED_AT_ONCE):
        part = events[start : start + REMOVED_AT_ONCE]
        is_last = start + len(part) == len(events)
        left = _remove(partition, through if is_last else part[-1].arrival, part, dead, () if start else of_drain)
    return left


def _remove(
    partition: int, through: int, events: Sequence[Event], dead: Collection[int], of_drain: tuple[Any, ...]
) -> Left:
    keys = Keys(partition)
    arrivals, _, paths, texts = zip(*events, strict=True)
    told = json.dumps([paths, arrivals, [len(text.encode()) for text in texts], list(dead)])
    left, hinted = run(
        "remove",
        [keys.log, keys.pending, keys.stored, keys.usage, keys.hinted, keys.work],
        [through, told, *of_drain],
    )
    return Left(left, bool(hinted))


def stored_through(partition: int) -> int:
    """Arrival of the newest event that a database has committed, as far as this Redis knows."""
    with available():
        return int(client().get(Keys(partition).stored) or 0)


def all_stored_through() -> dict[int, int]:
    """Of each partition: see `stored_through`."""
    with available():
        values = of_all("get", "stored")
    return {partition: int(value or 0) for partition, value in enumerate(values)}


def halt(partition: int) -> None:
    """From here on nothing of the partition is accepted, and nothing read."""
    with available():
        client().hset(Keys(partition).pending, BEHIND, "1")


def resume(partition: int) -> None:
    with available():
        client().hdel(Keys(partition).pending, BEHIND)


def halted() -> list[int]:
    """The partitions whose database is behind."""
    with available():
        return [partition for partition, halted in enumerate(of_all("hexists", "pending", BEHIND)) if halted]


def accept(partition: int, drained_through: int) -> None:
    """Takes the database as it is for what has been stored. The caller holds the partition's row lock."""
    keys = Keys(partition)
    run("accept", [keys.fence, keys.pending, keys.stored], [drained_through])


def begin_drain(partition: int) -> int:
    """Returns how many events there are to drain.

    From here on an append hints again: what it adds may come too late for the drain that begins now.
    """
    keys = Keys(partition)
    with available(), client().pipeline(transaction=False) as pipeline:
        _, events = pipeline.delete(keys.hinted).xlen(keys.log).execute()
    return events


def lengths() -> dict[int, int]:
    """How many events each partition holds, without the empty ones."""
    with available():
        return {partition: length for partition, length in enumerate(of_all("xlen", "log")) if length}


def length(partition: int) -> int:
    with available():
        return client().xlen(Keys(partition).log)


def is_left(partition: int) -> bool:
    """Whether events wait for which no hint is under way."""
    keys = Keys(partition)
    with available(), client().pipeline(transaction=False) as pipeline:
        events, hinted = pipeline.xlen(keys.log).exists(keys.hinted).execute()
    return events > 0 and not hinted


def pending(token: str, path: str) -> Pending | None:
    """What is acknowledged of one entity and perhaps not yet stored."""
    with available():
        value, behind = client().hmget(Keys(partition_of(token)).pending, path, BEHIND)
    if behind:
        raise DatabaseBehind
    return Pending.parse(value)


def withdraw(partition: int, path: str, arrival: int, verb: str, instead: Pending | None) -> None:
    """Forgets a dead event that somebody discarded; reads show `instead` of it, what is left of the entity."""
    keys = Keys(partition)
    arguments = [path, arrival, "" if instead is None else str(instead), verb]
    run("withdraw", [keys.numbers, keys.pending, keys.clock], arguments)


def pending_children(token: str, parent: str, low: int, high: int, limit: int, from_low: bool) -> PendingChildren:
    """What is pending of a run of the parent's children."""
    keys = Keys(partition_of(token))
    arguments = [parent, low, high, limit, "1" if from_low else "0"]
    last, *rest = run("page", [keys.numbers, keys.pending, keys.clock, keys.fence], arguments)
    if last == "behind":
        raise DatabaseBehind
    version, values = rest
    return PendingChildren(None if last is None else int(last), version, [Pending.parse(value) for value in values])


def horizon() -> int:
    """An arrival before which every event, of all partitions, is stored: older rows are complete and in order."""
    latest = now()
    with available():
        firsts = [entries[0] for entries in of_all("xrange", "log", "-", "+", 1) if entries]
    return min([latest, *(_arrival(id) for id, _ in firsts)])
