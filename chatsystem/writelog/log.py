"""The write log: the only module that talks to the state Redis. Documented in docs/write-log.md.

What is acknowledged is in the log or in the database; both are asked in that order, since an event leaves the log only
after the database has committed it.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import redis
from django.conf import settings
from redis.backoff import NoBackoff
from redis.retry import Retry

from chatsystem.writelog import work
from chatsystem.writelog.events import Event
from chatsystem.writelog.keys import BEHIND, HEARTBEAT, PARTITIONS, PROBE, Keys, partition_of

LUA = Path(__file__).parent / "lua"

#: How a Redis is configured that has on its disk what it acknowledged, and never throws any of it away.
SAFE = {"appendonly": "yes", "appendfsync": "always", "maxmemory-policy": "noeviction"}

#: Seconds between the tries of one append whose answer was lost. Each bears the same request id: at most one counts.
RETRY_DELAYS = (0.05, 0.25)

#: Seconds for which a process that seeds is believed to be alive.
SEEDING_LEASE = 3

#: Errors that are Redis's own answer: it has done nothing. Behind the others it may have done what it was asked.
REFUSALS = (redis.ResponseError, redis.BusyLoadingError)

#: How Redis answers a question about a stream to which nothing was ever added.
NO_SUCH_KEY = "no such key"

#: What Redis and its driver say of 'not now'. NoScriptError: it restarted between the loading of a script and its call.
UNAVAILABLE = (
    redis.ConnectionError,
    redis.TimeoutError,
    redis.ReadOnlyError,
    redis.exceptions.OutOfMemoryError,
    redis.exceptions.NoScriptError,
)


class LogUnavailable(Exception):
    """The state Redis is away, loading or full: the write was not accepted."""


class OutcomeUnknown(LogUnavailable):
    """The state Redis was asked to accept the write and never answered: it may have, or may still when it wakes up."""


class LogFull(LogUnavailable):
    """The log holds as much of the application as it may."""


class DatabaseBehind(LogUnavailable):
    """The database lost what it had stored. Nothing is accepted or read until it is looked at: see behind.py."""


class WorkersSilent(Exception):
    """Writes are accepted, and nobody seems to store them."""


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


@dataclass(frozen=True, slots=True)
class Backlog:
    """How far the database is behind what was acknowledged."""

    events: int
    #: Age of the oldest event.
    seconds: float


@dataclass(frozen=True, slots=True)
class Totals:
    """Events that have come through a partition's log since there is one."""

    acknowledged: int
    stored: int


@cache
def client() -> Any:
    # Any, since redis-py's types do not know that decode_responses makes every answer text.
    # Without retries of its own: a re-sent script would be a second write. append re-sends, under the same request id.
    pool = redis.ConnectionPool.from_url(
        settings.REDIS_URL,
        decode_responses=True,
        retry=Retry(NoBackoff(), 0),
        socket_timeout=settings.REDIS_TIMEOUT,
        socket_connect_timeout=settings.REDIS_TIMEOUT,
        health_check_interval=30,
    )
    # Not the client's own pool: of two threads that come first at once each makes a client, and one is thrown away. It
    # would close a pool of its own, under a request that has a connection from there.
    made = redis.Redis(connection_pool=pool)
    # As they come, without a dictionary for each: a drain reads thousands.
    made.set_response_callback("XRANGE", lambda entries: entries)
    return made


@cache
def _script(verb: str) -> tuple[str, str]:
    """Its text, and the hash by which Redis knows it."""
    text = (LUA / f"{verb}.lua").read_text()
    return text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


@contextmanager
def _available() -> Iterator[None]:
    """Tells 'Redis cannot now' (503) from a fault of ours (500)."""
    try:
        yield
    except UNAVAILABLE as error:
        if isinstance(error, redis.TimeoutError):
            # Others that are idle in the pool have gone silent with it: each would be waited for as long.
            client().connection_pool.disconnect(inuse_connections=False)
        raise LogUnavailable(str(error)) from error
    except redis.ResponseError as error:
        # A full disk: the AOF cannot be written, and Redis refuses every write by this name.
        if str(error).startswith("MISCONF"):
            raise LogUnavailable(str(error)) from error
        raise


@contextmanager
def _connection() -> Iterator[Any]:
    """Raises while nobody is there. What fails inside may have been sent, and done."""
    pool = client().connection_pool
    connection = pool.get_connection()
    try:
        yield connection
    finally:
        pool.release(connection)


def _evaluate(connection: Any, verb: str, keys: Sequence[str], arguments: Sequence[Any]) -> Any:
    """A script's answer. Past the client, whose part in a call was an eighth of what a POST computes."""
    text, digest = _script(verb)
    command = ("EVALSHA", digest, len(keys), *keys, *arguments)
    connection.send_command(*command)
    try:
        return connection.read_response()
    except redis.exceptions.NoScriptError:
        client().script_load(text)
        connection.send_command(*command)
        return connection.read_response()


def _run(verb: str, keys: Sequence[str], arguments: Sequence[Any]) -> Any:
    with _available(), _connection() as connection:
        return _evaluate(connection, verb, keys, arguments)


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
            with _available(), _connection() as connection:
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
    answer = _evaluate(connection, "append", keys, arguments)
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
    return _run("pass", [keys.fence, keys.clock], [drained_through]) == "kept"


def seed(partition: int, parent: str, last_number: int) -> None:
    """Lets append number `parent`'s children from `last_number` on. The caller holds the partition's row lock."""
    keys = Keys(partition)
    _run("seed", [keys.numbers, keys.fence], [parent, last_number])


@contextmanager
def seeding(partition: int) -> Iterator[None]:
    """One process at a time compares the partition with the database.

    It saves work; the row lock keeps it right. So who has waited for long goes on without: a process may have been
    killed that held it.
    """
    lock = client().lock(Keys(partition).seeding, timeout=SEEDING_LEASE, sleep=0.02, blocking_timeout=SEEDING_LEASE)
    with _available():
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
    with _available():
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
    keys = Keys(partition)
    arrivals, _, paths, texts = zip(*events, strict=True)
    told = json.dumps([paths, arrivals, [len(text.encode()) for text in texts], list(dead)])
    of_drain = () if seconds is None else work.of_drain(seconds, len(events))
    left, hinted = _run(
        "remove",
        [keys.log, keys.pending, keys.stored, keys.usage, keys.hinted, keys.work],
        [through, told, *of_drain],
    )
    return Left(left, bool(hinted))


def stored_through(partition: int) -> int:
    """Arrival of the newest event that a database has committed, as far as this Redis knows."""
    with _available():
        return int(client().get(Keys(partition).stored) or 0)


def all_stored_through() -> dict[int, int]:
    """Of each partition: see `stored_through`."""
    with _available():
        values = _of_all("get", "stored")
    return {partition: int(value or 0) for partition, value in enumerate(values)}


def halt(partition: int) -> None:
    """From here on nothing of the partition is accepted, and nothing read."""
    with _available():
        client().hset(Keys(partition).pending, BEHIND, "1")


def resume(partition: int) -> None:
    with _available():
        client().hdel(Keys(partition).pending, BEHIND)


def halted() -> list[int]:
    """The partitions whose database is behind."""
    with _available():
        return [partition for partition, halted in enumerate(_of_all("hexists", "pending", BEHIND)) if halted]


def accept(partition: int, drained_through: int) -> None:
    """Takes the database as it is for what has been stored. The caller holds the partition's row lock."""
    keys = Keys(partition)
    _run("accept", [keys.fence, keys.pending, keys.stored], [drained_through])


def _of_all(command: str, key: str, *arguments: Any) -> list[Any]:
    """One command's answers, asked of the same key of every partition."""
    pipeline = client().pipeline(transaction=False)
    for partition in range(PARTITIONS):
        getattr(pipeline, command)(getattr(Keys(partition), key), *arguments)
    return pipeline.execute()


def begin_drain(partition: int) -> int:
    """Returns how many events there are to drain.

    From here on an append hints again: what it adds may come too late for the drain that begins now.
    """
    keys = Keys(partition)
    with _available(), client().pipeline(transaction=False) as pipeline:
        _, events = pipeline.delete(keys.hinted).xlen(keys.log).execute()
    return events


def lengths() -> dict[int, int]:
    """How many events each partition holds, without the empty ones."""
    with _available():
        return {partition: length for partition, length in enumerate(_of_all("xlen", "log")) if length}


def length(partition: int) -> int:
    with _available():
        return client().xlen(Keys(partition).log)


def is_left(partition: int) -> bool:
    """Whether events wait for which no hint is under way."""
    keys = Keys(partition)
    with _available(), client().pipeline(transaction=False) as pipeline:
        events, hinted = pipeline.xlen(keys.log).exists(keys.hinted).execute()
    return events > 0 and not hinted


def pending(token: str, path: str) -> Pending | None:
    """What is acknowledged of one entity and perhaps not yet stored."""
    with _available():
        value, behind = client().hmget(Keys(partition_of(token)).pending, path, BEHIND)
    if behind:
        raise DatabaseBehind
    return Pending.parse(value)


def withdraw(partition: int, path: str, arrival: int, verb: str, instead: Pending | None) -> None:
    """Forgets a dead event that somebody discarded; reads show `instead` of it, what is left of the entity."""
    keys = Keys(partition)
    arguments = [path, arrival, "" if instead is None else str(instead), verb]
    _run("withdraw", [keys.numbers, keys.pending, keys.clock], arguments)


def pending_children(token: str, parent: str, low: int, high: int, limit: int, from_low: bool) -> PendingChildren:
    """What is pending of a run of the parent's children."""
    keys = Keys(partition_of(token))
    arguments = [parent, low, high, limit, "1" if from_low else "0"]
    last, *rest = _run("page", [keys.numbers, keys.pending, keys.clock, keys.fence], arguments)
    if last == "behind":
        raise DatabaseBehind
    version, values = rest
    return PendingChildren(None if last is None else int(last), version, [Pending.parse(value) for value in values])


def horizon() -> int:
    """An arrival before which every event, of all partitions, is stored: older rows are complete and in order."""
    latest = now()
    with _available():
        firsts = [entries[0] for entries in _of_all("xrange", "log", "-", "+", 1) if entries]
    return min([latest, *(_arrival(id) for id, _ in firsts)])


def backlog() -> Backlog:
    """What waits in all logs together."""
    return Backlog(sum(lengths().values()), max(now() - horizon(), 0) / 1_000_000)


def totals() -> list[Totals]:
    """Of each partition. Streams count what is added to them, also over a restart: append has nothing to do for it."""
    with _available():
        pipeline = client().pipeline(transaction=False)
        for partition in range(PARTITIONS):
            pipeline.xinfo_stream(Keys(partition).log)
        found = pipeline.execute(raise_on_error=False)
    return [_total(stream) for stream in found]


def _total(stream: dict[str, Any] | redis.RedisError) -> Totals:
    if isinstance(stream, redis.ResponseError) and str(stream) == NO_SUCH_KEY:
        return Totals(0, 0)
    if isinstance(stream, redis.RedisError):
        raise stream
    added: int = stream["entries-added"]
    return Totals(added, added - stream["length"])


def done() -> work.Work:
    """What the workers have done, in all partitions together."""
    with _available():
        return work.Work.parse(_of_all("hgetall", "work"))


def count_drifts(partition: int, drifts: int) -> None:
    with _available():
        client().hincrby(Keys(partition).work, work.DRIFTS, drifts)


def now() -> int:
    """The clock of Redis, in microseconds: the one that arrivals are told by."""
    with _available():
        seconds, microseconds = client().time()
    return int(seconds) * 1_000_000 + int(microseconds)


def probe() -> None:
    """Raises `LogUnavailable` unless the state Redis takes writes: one that is read-only, full or loading does not."""
    with _available():
        client().set(PROBE, "1", px=1000)


def hazards() -> list[str]:
    """Why the state Redis could lose what was acknowledged; empty for one that keeps it."""
    with _available():
        try:
            found = client().config_get(*SAFE)
        except redis.exceptions.NoPermissionError:
            return ["its configuration cannot be read: grant the user +config|get"]
    return [f"{name} is {found.get(name)}, not {safe}" for name, safe in SAFE.items() if found.get(name) != safe]


def max_memory() -> int:
    """Bytes that the state Redis may use; 0 when nothing bounds it, or its configuration cannot be read."""
    with _available():
        try:
            return int(client().config_get("maxmemory")["maxmemory"])
        except redis.exceptions.NoPermissionError:
            return 0


def beat_heart() -> None:
    """Called by a worker, to say that workers work."""
    with _available():
        client().set(HEARTBEAT, "1", ex=15)


def expect_workers() -> None:
    """Raises `WorkersSilent` when no worker has shown itself for 15 seconds."""
    with _available():
        if not client().exists(HEARTBEAT):
            raise WorkersSilent
