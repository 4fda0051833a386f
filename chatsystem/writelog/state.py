"""The state Redis: how it is reached, how its scripts are run, and what it says when it cannot now.

Only the write log talks to it. Documented in docs/write-log.md.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import redis
from django.conf import settings
from django.dispatch import receiver
from redis.backoff import NoBackoff
from redis.retry import Retry

from chatsystem.silence import gone_silent
from chatsystem.writelog.keys import PARTITIONS, Keys

LUA = Path(__file__).parent / "lua"

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


@receiver(gone_silent)
def _drop_idle(**kwargs: object) -> None:
    client().connection_pool.disconnect(inuse_connections=False)


@cache
def _script(verb: str) -> tuple[str, str]:
    """Its text, and the hash by which Redis knows it."""
    text = (LUA / f"{verb}.lua").read_text()
    return text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


@contextmanager
def available() -> Iterator[None]:
    """Tells 'Redis cannot now' (503) from a fault of ours (500)."""
    try:
        yield
    except UNAVAILABLE as error:
        if isinstance(error, redis.TimeoutError):
            gone_silent.send(None)
        raise LogUnavailable(str(error)) from error
    except redis.ResponseError as error:
        # A full disk: the AOF cannot be written, and Redis refuses every write by this name.
        if str(error).startswith("MISCONF"):
            raise LogUnavailable(str(error)) from error
        raise


@contextmanager
def pooled_connection() -> Iterator[Any]:
    """Raises while nobody is there. What fails inside may have been sent, and done."""
    pool = client().connection_pool
    connection = pool.get_connection()
    try:
        yield connection
    finally:
        pool.release(connection)


def evaluate(connection: Any, verb: str, keys: Sequence[str], arguments: Sequence[Any]) -> Any:
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


def run(verb: str, keys: Sequence[str], arguments: Sequence[Any]) -> Any:
    with available(), pooled_connection() as connection:
        return evaluate(connection, verb, keys, arguments)


def of_all(command: str, key: str, *arguments: Any) -> list[Any]:
    """One command's answers, asked of the same key of every partition."""
    pipeline = client().pipeline(transaction=False)
    for partition in range(PARTITIONS):
        getattr(pipeline, command)(getattr(Keys(partition), key), *arguments)
    return pipeline.execute()


def now() -> int:
    """The clock of Redis, in microseconds: the one that arrivals are told by."""
    with available():
        seconds, microseconds = client().time()
    return int(seconds) * 1_000_000 + int(microseconds)
