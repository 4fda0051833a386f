"""A connection that is given up as silent takes the idle ones of its process along."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any

import pytest
import redis
from django.core.cache import cache
from django_redis import get_redis_connection

from chatsystem.cache import asked
from chatsystem.writelog import log
from chatsystem.writelog.state import LogUnavailable
from tests.bench import RealRedis


def ask_the_state() -> None:
    with pytest.raises(LogUnavailable):
        log.length(0)


def ask_the_cache() -> None:
    assert asked(lambda: cache.get("anything"), "away") == "away"


def connections(server: RealRedis) -> set[str]:
    """Their ids, as the server knows them."""
    with redis.Redis(unix_socket_path=str(server.data_dir.redis_socket)) as looking_on:
        return {each["id"] for each in looking_on.client_list()}


@pytest.mark.parametrize("ask", [ask_the_state, ask_the_cache])
def test_who_waited_for_a_silent_redis_leaves_nobody_a_connection_to_wait_for(
    ask: Callable[[], None], redis_server: RealRedis, state: Any
) -> None:
    # Given idle connections to the state Redis and to the cache,
    idle = {str(state.client_id()), str(get_redis_connection("default").client_id())}
    assert idle <= connections(redis_server)

    # when an answer of either is waited for in vain,
    os.kill(redis_server.process.pid, signal.SIGSTOP)
    try:
        ask()
    finally:
        os.kill(redis_server.process.pid, signal.SIGCONT)

    # then none of them is used again, and both are reached by new ones.
    assert log.length(0) == 0
    assert asked(lambda: cache.get("anything"), "away") is None
    assert not idle & connections(redis_server)
