"""A timeout on one connection closes the idle connections of its process."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from django.core.cache import cache
from django_redis import get_redis_connection

from chatsystem.cache import with_fallback
from chatsystem.writelog import stream
from chatsystem.writelog.exceptions import LogUnavailable
from chatsystem.writelog.redis_client import client
from tests.support.harness import RealRedis, forget_redis
from tests.support.product import eventually


def ask_the_state() -> None:
    with pytest.raises(LogUnavailable):
        stream.lengths()


def ask_the_cache() -> None:
    assert with_fallback(lambda: cache.get("anything"), "away") == "away"


def connections(server: RealRedis) -> set[str]:
    """Returns the server's ids of the connections."""
    with redis.Redis(unix_socket_path=str(server.data_dir.redis_socket)) as looking_on:
        return {each["id"] for each in looking_on.client_list()}


@pytest.fixture
def impatient(state: object, settings: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The state Redis. It and the cache are waited for one second, in place of the tests' many."""
    settings.REDIS_TIMEOUT = 1
    forget_redis()
    pool = get_redis_connection("default").connection_pool
    pool.disconnect()
    monkeypatch.setitem(pool.connection_kwargs, "socket_timeout", 1)
    yield client(0)
    pool.disconnect()
    forget_redis()


@pytest.mark.parametrize("ask", [ask_the_state, ask_the_cache])
def test_a_timeout_closes_the_idle_connections(
    ask: Callable[[], None], redis_server: RealRedis, impatient: Any
) -> None:
    # Given idle connections to the state Redis and to the cache,
    idle = {str(impatient.client_id()), str(get_redis_connection("default").client_id())}
    assert idle <= connections(redis_server)

    # when a request to either times out,
    os.kill(redis_server.process.pid, signal.SIGSTOP)
    try:
        ask()
    finally:
        os.kill(redis_server.process.pid, signal.SIGCONT)

    # then none of them is used again, and new connections reach both.
    assert stream.lengths() == {}
    assert with_fallback(lambda: cache.get("anything"), "away") is None
    # Redis notices the ends of connections when it wakes up.
    eventually(lambda: not idle & connections(redis_server))
