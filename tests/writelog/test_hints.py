"""Hints: a drain is asked for once, and a lost hint only costs time."""

from __future__ import annotations

import time
from typing import Any

import pytest
from celery import current_app
from kombu.exceptions import OperationalError

from chatsystem.writelog import log, tasks, vitals
from chatsystem.writelog.drain import drain
from chatsystem.writelog.events import Event
from chatsystem.writelog.intake import hints
from chatsystem.writelog.keys import partition_of
from chatsystem.writelog.tasks import drain_partition, reconcile, sweep
from messages_app.models import Message
from tests.bench import Tenant, drain_all


def waiting_tasks() -> int:
    with current_app.connection_for_read() as connection:
        return connection.default_channel.client.llen("celery")


def test_many_writes_ask_for_one_drain_until_it_begins(ours: Tenant) -> None:
    # Given an application whose log is empty and whose drain has begun,
    drain_all()
    before = waiting_tasks()

    # when it gets a burst of writes,
    ours.chat()
    for _ in range(20):
        ours.message(1)

    # then one drain is asked for; once that has begun, the next write asks again.
    assert waiting_tasks() == before + 1
    log.begin_drain(partition_of(ours.token))
    ours.message(1)
    assert waiting_tasks() == before + 2


def test_a_write_that_comes_as_a_drain_ends_asks_for_the_next(ours: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given a drain that has found the log empty, and has not ended yet,
    ours.chat()
    before = waiting_tasks()
    remove = log.remove

    def find_empty_then_write(*args: Any) -> log.Left:
        left = remove(*args)
        assert not left.events
        ours.message(1, "late")
        return left

    # when a message is posted, then it asks for a drain of its own.
    with monkeypatch.context() as patched:
        patched.setattr(log, "remove", find_empty_then_write)
        drain(partition_of(ours.token))
    assert log.length(partition_of(ours.token)) == 1
    assert waiting_tasks() == before + 1


@pytest.mark.parametrize("taken", [False, True])
def test_what_comes_during_a_drain_is_left_to_the_next_unless_that_one_came_and_went(
    ours: Tenant, monkeypatch: pytest.MonkeyPatch, taken: bool
) -> None:
    # Given a drain that has read the log,
    ours.chat()
    partition = partition_of(ours.token)
    read = log.read

    def read_then_write(*args: int) -> list[Event]:
        monkeypatch.setattr(log, "read", read)
        found = read(*args)
        ours.message(1, "late")
        if taken:
            log.begin_drain(partition)
        return found

    # when a message is posted, and the drain that it asks for has or has not yet come by,
    monkeypatch.setattr(log, "read", read_then_write)
    drain(partition)

    # then it is stored, or left to the drain that is still to come.
    assert Message.objects.count() == taken
    assert log.length(partition) == (not taken)


def test_a_drain_waits_for_more_since_its_hint_and_never_longer(ours: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    # So long that no machine takes it for a drain itself.
    gathering = 3.0
    monkeypatch.setattr(tasks, "GATHERING", gathering)
    ours.chat()
    partition = partition_of(ours.token)
    # Given hints from just now, from long ago, and by a clock that is far ahead.
    for hinted_at, low, high in ((time.time(), gathering / 2, 30), (0.0, 0, gathering), (4e9, gathering, 30)):
        began = time.monotonic()
        ours.message(1)
        drain_partition(partition, hinted_at)
        assert low <= time.monotonic() - began < high
        assert not log.length(partition)


def test_a_broker_that_is_away_costs_no_write(ours: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given a broker that takes no hint,
    ours.chat()
    log.begin_drain(partition_of(ours.token))

    def away(*args: object) -> None:
        raise OperationalError("away")

    with monkeypatch.context() as patched:
        patched.setattr(drain_partition, "delay", away)

        # when a message is posted, then it is acknowledged and readable,
        ours.message(1, "kept")
        assert ours.get("/chats/1/messages/1")["body"] == "kept"

    # and the sweep asks for the drain that nobody asked for.
    before = waiting_tasks()
    sweep()
    assert waiting_tasks() == before + 1
    drain_partition(partition_of(ours.token))
    assert Message.objects.get().body == "kept"


def test_a_broker_that_took_no_hint_keeps_one_request_waiting_and_not_each(
    ours: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a broker that is silent, and writes to several partitions,
    ours.chat()
    asked = []

    def silent(partition: int, hinted_at: float) -> None:
        asked.append(partition)
        raise OperationalError("timed out")

    with monkeypatch.context() as patched:
        patched.setattr(drain_partition, "delay", silent)
        for _ in range(3):
            log.begin_drain(partition_of(ours.token))
            ours.message(1, "kept")
    assert len(asked) == 1

    # when it has had time, then it is asked again.
    before = waiting_tasks()
    monkeypatch.setattr(hints, "asks_at", time.monotonic())
    log.begin_drain(partition_of(ours.token))
    ours.message(1, "kept")
    assert waiting_tasks() == before + 1


def test_a_sweep_of_an_empty_log_asks_for_nothing_and_shows_that_a_worker_lives(
    state: Any, transactional_db: None
) -> None:
    sweep()

    assert waiting_tasks() == 0
    vitals.expect_workers()


def test_a_drain_of_an_empty_partition_begins_no_transaction(
    state: Any, django_assert_num_queries: Any, db: None
) -> None:
    with django_assert_num_queries(0):
        drain_partition(3)


def test_the_periodic_reconcile_repairs_a_count_that_a_drain_has_moved(ours: Tenant) -> None:
    # Given a chat with two messages whose count is wrong,
    ours.chat()
    ours.batch(1, ["a", "b"])
    drain_all()
    chat = Message.objects.first().chat
    chat.messages_count = 7
    chat.save(update_fields=["messages_count"])

    # when beat reconciles, then it is right again.
    reconcile()
    assert ours.get("/chats/1")["messages_count"] == 2
