"""Connections to the state Redis, its errors, its clock and its replicas.

Only the write log uses this Redis. Documented in docs/write-log.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, TypeVar

import redis
from django.conf import settings
from django.dispatch import receiver

from chatsystem.probes import Probes
from chatsystem.signals import connection_stale
from chatsystem.writelog.exceptions import DatabaseBehind, LogUnavailable, NotPermitted, Superseded, Unreplicated
from chatsystem.writelog.keys import Keys
from chatsystem.writelog.servers import servers

T = TypeVar("T")

#: Exceptions that mean "not now". NoScriptError: Redis restarted between loading a script and calling it.
UNAVAILABLE = (
    redis.ConnectionError,
    redis.TimeoutError,
    redis.ReadOnlyError,
    redis.exceptions.OutOfMemoryError,
    redis.exceptions.NoScriptError,
    # A Cluster: the slot is moving, has moved, or has no primary now.
    redis.exceptions.AskError,
    redis.exceptions.ClusterDownError,
    redis.exceptions.TryAgainError,
    redis.exceptions.RedisClusterException,
)

#: Beginnings of other errors that mean "not now": the AOF cannot be written (disk full), fewer replicas than
#: min-replicas-to-write follow, another script runs for too long.
NOT_NOW = ("MISCONF", "NOREPLICAS", "BUSY ")

#: Seconds after which Redis releases a lock by itself, because its holder may have been killed.
LOCK_SECONDS = 3

#: Seconds after which `ask_each` leaves one of several servers out. Shorter than readiness waits (health.PATIENCE).
REACHABLE_WITHIN = 1.5

_probes = Probes()


def client(partition: int) -> Any:
    """Returns the client of the Redis that serves the partition. Call it inside `available`.

    Typed as Any because redis-py's types do not know that decode_responses makes every answer text.
    """
    return servers().client(partition)


def groups() -> list[list[int]]:
    """Returns the partitions of each Redis."""
    with available():
        return servers().groups()


def labelled_groups() -> dict[str, list[int]]:
    """Returns `groups` with a label for each Redis. It does not contain the address, which is for operators only."""
    found = groups()
    return {f"state Redis {number} of {len(found)}": group for number, group in enumerate(found, start=1)}


def group_of(partition: int) -> list[int]:
    """Returns all partitions of the Redis that serves this one."""
    return next(group for group in groups() if partition in group)


def look_again() -> None:
    """Follows a failover, after an answer that may come from an old primary."""
    with suppress(*UNAVAILABLE):
        servers().look_again()


def check_flags(behind: object, superseded: object) -> None:
    """Raises `DatabaseBehind` or `Superseded` if the pending view carries that flag."""
    if behind:
        raise DatabaseBehind
    if superseded:
        look_again()
        raise Superseded("the database takes events from another Redis")


@receiver(connection_stale)
def _drop_idle(**kwargs: object) -> None:
    for each in servers().clients():
        each.connection_pool.disconnect(inuse_connections=False)


@contextmanager
def available() -> Iterator[None]:
    """Raises `LogUnavailable` (503) for errors that mean "not now". Other errors are our own bugs (500)."""
    try:
        yield
    except UNAVAILABLE as error:
        if isinstance(error, redis.TimeoutError):
            connection_stale.send(None)
        look_again()
        raise LogUnavailable(str(error)) from error
    except redis.ResponseError as error:
        if missing := NotPermitted.from_redis(error):
            raise missing from error
        if str(error).startswith(NOT_NOW):
            raise LogUnavailable(str(error)) from error
        raise


@contextmanager
def pooled_connection(partition: int) -> Iterator[Any]:
    """Lends a connection to the Redis that serves the partition.

    Raises before the block runs if nothing was sent, and inside it otherwise.
    """
    pool = client(partition).connection_pool
    connection = pool.get_connection()
    try:
        yield connection
    finally:
        pool.release(connection)


def ask_all(connection: Any, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
    """Sends the commands in one round trip and returns their answers. Raises the first error among them."""
    connection.send_packed_command(connection.pack_commands(commands))
    try:
        return [connection.read_response() for _ in commands]
    except redis.ResponseError:
        # Otherwise the next user of the connection would read the answers that are still to come.
        connection.disconnect()
        raise


@contextmanager
def short_lock(partition: int, key: str) -> Iterator[None]:
    """Holds a Redis lock for the block. The key is one of the partition's.

    The lock only saves work; row locks of the database keep the data correct. After LOCK_SECONDS a waiter therefore
    goes on without the lock: its holder may have been killed.
    """
    with available():
        lock = client(partition).lock(key, timeout=LOCK_SECONDS, sleep=0.02, blocking_timeout=LOCK_SECONDS)
        acquired = lock.acquire()
    try:
        yield
    finally:
        # The lock may have expired, or Redis may be down. Either way it is free again.
        if acquired:
            with suppress(redis.RedisError):
                lock.release()


def of_each(partitions: Sequence[int], command: str, key: str, *arguments: Any) -> dict[int, Any]:
    """Runs one command on the same key of each partition, in one round trip, and returns the answers.

    One Redis must serve all of the partitions: see `groups`.
    """
    with available(), client(partitions[0]).pipeline(transaction=False) as pipeline:
        for partition in partitions:
            getattr(pipeline, command)(getattr(Keys(partition), key), *arguments)
        return dict(zip(partitions, pipeline.execute(), strict=True))


def of_all(command: str, key: str, *arguments: Any) -> dict[int, Any]:
    """Does what `of_each` does for all partitions, in one round trip to each Redis."""
    return dict(of_every(lambda partitions: of_each(partitions, command, key, *arguments).items()))


def of_every(ask: Callable[[list[int]], Iterable[T]]) -> list[T]:
    """Calls `ask` with the partitions of each Redis and returns all answers together. Raises if one is down."""
    return [answer for partitions in groups() for answer in ask(partitions)]


def of_reachable(ask: Callable[[list[int]], Iterable[T]]) -> list[T]:
    """Calls `ask` with the partitions of each Redis and returns all answers together.

    Leaves out a Redis that is down or silent. Raises its error only if no other answers.
    """
    servers = labelled_groups()
    found: list[T] = []
    errors: list[LogUnavailable] = []
    for answers in ask_each(servers, ask).values():
        if isinstance(answers, LogUnavailable):
            errors.append(answers)
        elif isinstance(answers, TimeoutError):
            errors.append(LogUnavailable("the state Redis is silent"))
        elif isinstance(answers, Exception):
            raise answers
        else:
            found += answers
    if len(errors) == len(servers):
        raise errors[0]
    return found


def ask_each(servers: Mapping[str, list[int]], ask: Callable[[list[int]], T]) -> dict[str, T | Exception]:
    """Calls `ask` with the partitions of each Redis, all at the same time, and returns each answer or error.

    `servers` are `labelled_groups`. The error of a silent one among several is TimeoutError, after REACHABLE_WITHIN.
    """
    if len(servers) == 1:
        # A single server delays no other. So this thread asks it, on the database connection that it has.
        return {label: _ask(ask, partitions) for label, partitions in servers.items()}
    # Late threads are counted for each `ask`: one may wait for the database, and the others must not suffer.
    questions = {(label, ask): partial(ask, partitions) for label, partitions in servers.items()}
    return {label: answer for (label, _), answer in _probes.run(questions, REACHABLE_WITHIN).items()}


def _ask(ask: Callable[[list[int]], T], partitions: list[int]) -> T | Exception:
    try:
        return ask(partitions)
    except Exception as error:
        return error


def now(partition: int) -> int:
    """Returns the clock of the partition's Redis in microseconds. Its arrival timestamps come from the same clock."""
    with available():
        seconds, microseconds = client(partition).time()
    return int(seconds) * 1_000_000 + int(microseconds)


def wait_command() -> tuple[str, int, int]:
    """Returns the command that asks how many replicas have the writes of its connection."""
    return "WAIT", settings.REDIS_REPLICAS, int(settings.REDIS_TIMEOUT * 1000) // 2


def expect_replicas(partition: int) -> None:
    """Raises `Unreplicated` if too few replicas of the partition's Redis follow to acknowledge a write."""
    if not settings.REDIS_REPLICAS:
        return
    with available(), client(partition).pipeline(transaction=False) as pipeline:
        ask_replicas(pipeline, partition)
        answers = pipeline.execute()
    check_replicas(answers)


def ask_replicas(pipeline: Any, partition: int) -> None:
    """Adds a write and a WAIT to the pipeline. WAIT returns at once on a connection that has written nothing."""
    pipeline.set(Keys(partition).probe, "1", px=1000).execute_command(*wait_command())


def check_replicas(answers: Sequence[Any]) -> None:
    """Raises `Unreplicated` if the answers to `ask_replicas` count too few replicas; accepts an empty sequence."""
    if answers and answers[-1] < settings.REDIS_REPLICAS:
        raise Unreplicated
