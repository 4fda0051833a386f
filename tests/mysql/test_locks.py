"""The partition's row lock on a server: one drain at a time, and free once its holder is killed or stopped."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable
from io import StringIO
from pkgutil import resolve_name
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection, connections
from rest_framework.test import APIClient

from chats.models import Chat
from chatsystem.writelog import dead_events, stream
from chatsystem.writelog import drain as drain_module
from chatsystem.writelog.counts import ChildCount, reconcile_due
from chatsystem.writelog.drain import drain
from chatsystem.writelog.keys import Keys, partition_of
from chatsystem.writelog.models import DeadEvent
from chatsystem.writelog.partitions import locked
from chatsystem.writelog.redis_client import client
from messages_app.counts import MESSAGES_COUNT
from messages_app.models import Message
from tests.support.harness import Tenant, drain_all, forget_redis, in_threads, is_locked
from tests.support.product import eventually

#: Idle seconds after which a stopped drain's session ends; 10 in the product.
IDLE = 2


def test_a_second_drain_returns_at_once_and_drains_other_partitions(ours: Tenant, api: APIClient) -> None:
    # Given a tenant in another partition, and a drain that holds ours,
    theirs = ours
    while partition_of(theirs.token) == partition_of(ours.token):
        theirs = Tenant.new(api, "theirs")
    holding, release = threading.Event(), threading.Event()

    def hold() -> None:
        with locked(partition_of(ours.token)):
            holding.set()
            release.wait(60)
        connection.close()

    holder = threading.Thread(target=hold)
    holder.start()
    assert holding.wait(60)

    # when another one tries it, then it returns at once and drains the other partition.
    assert drain([partition_of(ours.token)], skip=True) == 0
    assert drain([partition_of(theirs.token)], skip=True) == 1
    assert holder.is_alive()
    release.set()
    holder.join()
    assert drain([partition_of(ours.token)], skip=True) > 0


def _seed(ours: Tenant) -> None:
    client(0).hdel(Keys(partition_of(ours.token)).numbers, f"{ours.token}/1")
    ours.message(1)


def _repair_a_count(ours: Tenant) -> None:
    chat = Chat.objects.get()
    MESSAGES_COUNT.repair_all([(chat.pk, ours.token)])


def _replay(ours: Tenant) -> None:
    dead_events.replay(_dead_event(ours))


def _discard(ours: Tenant) -> None:
    dead_events.discard(_dead_event(ours), "somebody", "a test")


def _accept_the_database(ours: Tenant) -> None:
    client(0).incr(Keys(partition_of(ours.token)).stored)
    call_command("accept_database", yes=True, stdout=StringIO())


def _dead_event(ours: Tenant) -> DeadEvent:
    return DeadEvent.objects.create(
        partition_id=partition_of(ours.token), arrival=1, verb="update", path=f"{ours.token}/1", text="dead", error="x"
    )


@pytest.mark.parametrize(
    ("act", "in_the_middle"),
    [
        (_seed, "chatsystem.writelog.seeding.set_last_number"),
        (_repair_a_count, "chatsystem.writelog.counts.ChildCount.drifts"),
        (_replay, "chatsystem.writelog.dead_events.store"),
        (_discard, "chatsystem.writelog.dead_events.withdraw"),
        (_accept_the_database, "chatsystem.writelog.rollback_guard.accept_database"),
    ],
    ids=["seed", "repair a count", "replay", "discard", "accept the database"],
)
def test_nobody_can_drain_a_partition_in_the_middle_of(
    ours: Tenant, monkeypatch: pytest.MonkeyPatch, act: Callable[[Tenant], None], in_the_middle: str
) -> None:
    # Given a stored chat and a stored message,
    ours.chat()
    ours.message(1)
    drain_all()
    locked: list[bool] = []
    step = resolve_name(in_the_middle)

    def look_then_go_on(*args: Any, **options: Any) -> Any:
        locked.append(is_locked(partition_of(ours.token)))
        return step(*args, **options)

    # when another process drains in the middle of it, then the partition's row is locked.
    monkeypatch.setattr(in_the_middle, look_then_go_on)
    act(ours)
    assert locked == [True]
    assert not is_locked(partition_of(ours.token))


def test_a_repair_of_a_count_includes_what_is_stored_meanwhile(ours: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given a chat whose count is wrong, and a message that waits,
    ours.chat()
    ours.message(1, "stored")
    drain_all()
    Chat.objects.update(messages_count=7)
    ours.message(1, "waits")
    count_children = ChildCount.drifts

    def count_then_others_drain(count: ChildCount, parents: Any) -> Any:
        found = count_children(count, parents)
        in_threads(lambda _: drain([partition_of(ours.token)], skip=True), [0])
        return found

    # when others drain between counting and writing the count,
    with monkeypatch.context() as patched:
        patched.setattr(ChildCount, "drifts", count_then_others_drain)
        reconcile_due()

    # then it is right once everything is stored.
    drain_all()
    assert Chat.objects.get().messages_count == Message.objects.count() == 2


def test_a_drain_killed_with_sigkill_frees_its_partition_at_once(ours: Tenant) -> None:
    ours.chat()
    ours.message(1, "survives")
    process = _stuck_drain(ours, idle=60)

    process.kill()
    process.join()

    # The server notices the closed socket after a while, so this tries until it has.
    eventually(lambda: drain([partition_of(ours.token)], skip=True) > 0)
    assert Message.objects.get().body == "survives"


def test_a_drain_stopped_in_its_middle_loses_its_partition_and_stores_nothing_twice(ours: Tenant) -> None:
    # Given a drain that is stopped after it has written rows and before its commit,
    ours.chat()
    ours.message(1, "stored once")
    process = _stuck_drain(ours, IDLE)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGSTOP)
    stopped = time.monotonic()

    # when the server has ended its idle session, another one drains the partition,
    eventually(lambda: drain([partition_of(ours.token)], skip=True) > 0)
    assert time.monotonic() - stopped > IDLE / 2
    ours.message(1, "posted meanwhile")

    # and the first one wakes up, then its transaction is gone, and it drains what waits now.
    os.kill(process.pid, signal.SIGCONT)
    process.join(60)
    assert process.exitcode == 0
    assert list(Message.objects.order_by("number").values_list("body", flat=True)) == [
        "stored once",
        "posted meanwhile",
    ]
    assert stream.lengths() == {}
    assert reconcile_due() == []


def _stuck_drain(ours: Tenant, idle: int) -> Any:
    """Starts a process that stores the partition's events and never commits: it sleeps at each try.

    Its session ends after `idle` seconds of silence.
    """
    connections.close_all()
    context = multiprocessing.get_context("fork")
    storing = context.Event()
    process = context.Process(target=_drain_slowly, args=(partition_of(ours.token), idle, storing))
    process.start()
    assert storing.wait(60)
    return process


def _drain_slowly(partition: int, idle: int, storing: Any) -> None:
    forget_redis()
    store = drain_module.store
    tries = []

    def store_and_wait(events: Any) -> Any:
        with connection.cursor() as cursor:
            cursor.execute(f"SET SESSION wait_timeout = {idle}")
        dead_events = store(events)
        tries.append(events)
        if len(tries) == 1:
            storing.set()
            # One second of running. For the stopped process the time goes on when it wakes up.
            for _ in range(100):
                time.sleep(0.01)
        return dead_events

    drain_module.store = store_and_wait
    drain([partition])
    os._exit(0)
