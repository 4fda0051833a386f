"""The partition's row lock, on a server: one drain at a time, free when its holder is killed or stopped."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from typing import Any

from django.db import connection, connections
from rest_framework.test import APIClient

from chatsystem.writelog import drain as drain_module
from chatsystem.writelog import log
from chatsystem.writelog.counts import reconcile_due
from chatsystem.writelog.drain import drain
from chatsystem.writelog.keys import partition_of
from chatsystem.writelog.partitions import locked
from chatsystem.writelog.state import client
from messages_app.models import Message
from tests.bench import Tenant

#: Seconds of silence after which a stopped drain's session ends; 10 in the product.
IDLE = 2


def test_a_second_drain_goes_by_at_once_and_drains_other_partitions(ours: Tenant, api: APIClient) -> None:
    # Given a tenant of another partition than ours, and a drain that holds ours',
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
    assert holding.wait(20)

    # when another one comes to it, then it finds nothing to do, without waiting, and drains what is theirs.
    assert drain(partition_of(ours.token), skip=True) == 0
    assert drain(partition_of(theirs.token), skip=True) == 1
    assert holder.is_alive()
    release.set()
    holder.join()
    assert drain(partition_of(ours.token), skip=True) > 0


def test_a_drain_killed_with_sigkill_gives_its_partition_free_at_once(ours: Tenant) -> None:
    ours.chat()
    ours.message(1, "survives")
    process = _stuck_drain(ours, idle=60)

    process.kill()
    process.join()

    began = time.monotonic()
    # The server notices the closed socket, not us: it is asked until it has.
    while not drain(partition_of(ours.token), skip=True):
        assert time.monotonic() - began < 10
    assert Message.objects.get().body == "survives"


def test_a_drain_stopped_in_its_middle_loses_its_partition_and_stores_nothing_twice(ours: Tenant) -> None:
    # Given a drain that has written rows, not committed them, and is stopped,
    ours.chat()
    ours.message(1, "stored once")
    process = _stuck_drain(ours, IDLE)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGSTOP)
    stopped = time.monotonic()

    # when the server has heard nothing of it for a while, another one drains the partition,
    while not drain(partition_of(ours.token), skip=True):
        assert time.monotonic() - stopped < IDLE + 5
        time.sleep(0.05)
    assert time.monotonic() - stopped > IDLE / 2
    ours.message(1, "posted meanwhile")

    # and the first wakes up, then it finds its transaction gone, and drains what there is now.
    os.kill(process.pid, signal.SIGCONT)
    process.join(20)
    assert process.exitcode == 0
    assert list(Message.objects.order_by("number").values_list("body", flat=True)) == [
        "stored once",
        "posted meanwhile",
    ]
    assert log.lengths() == {}
    assert reconcile_due() == []


def _stuck_drain(ours: Tenant, idle: int) -> Any:
    """A process that has stored the partition's events and does not come to its commit: it sleeps at each try.

    Its session ends after `idle` seconds of silence.
    """
    connections.close_all()
    context = multiprocessing.get_context("fork")
    storing = context.Event()
    process = context.Process(target=_drain_slowly, args=(partition_of(ours.token), idle, storing))
    process.start()
    assert storing.wait(20)
    return process


def _drain_slowly(partition: int, idle: int, storing: Any) -> None:
    client.cache_clear()
    store = drain_module.store
    tries = []

    def store_and_wait(events: Any) -> Any:
        with connection.cursor() as cursor:
            cursor.execute(f"SET SESSION wait_timeout = {idle}")
        dead = store(events)
        tries.append(events)
        if len(tries) == 1:
            storing.set()
            # One second of running; for the stopped one it goes on when it is woken.
            for _ in range(100):
                time.sleep(0.01)
        return dead

    drain_module.store = store_and_wait
    drain(partition)
    os._exit(0)
