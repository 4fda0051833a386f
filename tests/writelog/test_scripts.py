"""Naming a Redis process whose user may not run INFO, by a mark in its script cache."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from chatsystem.writelog import scripts
from chatsystem.writelog.keys import Keys
from chatsystem.writelog.redis_client import pooled_connection
from chatsystem.writelog.scripts import incarnation
from tests.support.harness import forget_redis
from tests.support.product import eventually
from tests.support.redis_servers import Server, use
from tests.support.services.redis import Redis

#: Options for every process, since Redis does not keep the effect of ACL SETUSER.
WITHOUT_INFO = ["--user", "app", "on", ">secret", "~*", "&*", "+@all", "-info"]


@pytest.fixture
def server(tmp_path: Path, settings: Any) -> Iterator[Redis]:
    """A state Redis whose user may not run INFO."""
    server = Redis(tmp_path, options=WITHOUT_INFO)
    server.start()
    settings.REDIS_URL = f"redis://app:secret@127.0.0.1:{server.port}/0"
    forget_redis()
    yield server
    settings.REDIS_URL = ""
    forget_redis()
    server.kill()


def test_a_redis_process_keeps_its_name_and_another_one_on_the_same_data_gets_a_new_one(server: Redis) -> None:
    first = incarnation(0)
    assert incarnation(0) == first

    server.kill()
    server.start()

    assert server.client.get(Keys(0).mark) == first
    second = incarnation(0)
    assert second != first
    assert server.client.get(Keys(0).mark) == second


def test_of_several_processes_one_names_a_redis_for_all(server: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given two processes that have seen a Redis without a name,
    key = Keys(0).mark
    with pooled_connection(0) as one, pooled_connection(0) as other:
        first, second = scripts._name(one, key, seen=""), scripts._name(other, key, seen="")

    # then the second one takes the name that the first one gave, and so does a third that starts.
    assert second == first
    monkeypatch.setattr(scripts, "_marks", {})
    assert incarnation(0) == first


def test_all_processes_agree_on_the_name_of_an_emptied_redis(server: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given a process that knows the name of a Redis, and another one that finds it empty and renames it,
    first = incarnation(0)
    server.client.flushall()
    monkeypatch.setattr(scripts, "_marks", {})
    second = incarnation(0)

    # when the first one asks again, then both agree.
    monkeypatch.setattr(scripts, "_marks", {("127.0.0.1", server.port): first})
    assert second != first
    assert incarnation(0) == second


def test_a_promoted_replica_gets_a_new_name(tmp_path: Path, settings: Any) -> None:
    # Given a replica, which has all keys of its primary,
    primary = Server(tmp_path / "primary", options=WITHOUT_INFO)
    replica = Server(tmp_path / "replica", primary, options=WITHOUT_INFO)
    try:
        use(primary, settings, user="app:secret@")
        named = incarnation(0)
        eventually(lambda: replica.client.get(Keys(0).mark) == named)

        # when it takes over, then it has another name, although the key with the old name exists.
        replica.client.replicaof("NO", "ONE")
        use(replica, settings, user="app:secret@")
        assert incarnation(0) not in ("", named)
    finally:
        forget_redis()
        replica.kill()
        primary.kill()


def test_a_script_with_the_name_of_one_process_never_gets_into_another(
    server: Redis, tmp_path: Path, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There it would return the name of the first one."""
    # Given a process of ours that has just met one Redis, and a thread that is still connected to another one,
    named = incarnation(0)
    second = Redis(tmp_path / "second", options=WITHOUT_INFO)
    second.start()
    settings.REDIS_URL = f"redis://app:secret@127.0.0.1:{second.port}/0"
    forget_redis()
    look = scripts._look_at_mark

    def look_and_be_overtaken(connection: Any, partition: int) -> str:
        mark = look(connection, partition)
        scripts._marks[scripts._address(connection)] = named
        return mark

    monkeypatch.setattr(scripts, "_look_at_mark", look_and_be_overtaken)

    # when that thread runs a script, then it runs under the name of the Redis that answers.
    try:
        assert incarnation(0) != named
        assert second.client.script_exists(scripts._script("incarnation", named)[1]) == [False]
    finally:
        second.kill()
