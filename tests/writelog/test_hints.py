"""Hints: one per drain, and a lost hint only costs time."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import pytest
from celery import current_app
from kombu.exceptions import OperationalError

from chatsystem.writelog import append, keys, stats, stream, tasks
from chatsystem.writelog import drain as drain_module
from chatsystem.writelog.append import hints
from chatsystem.writelog.drain import drain
from chatsystem.writelog.events import Event
from chatsystem.writelog.keys import partition_of
from chatsystem.writelog.tasks import drain_waiting, reconcile, sweep
from messages_app.models import Message
from tests.support.harness import Tenant, drain_all


def waiting_tasks() -> int:
    with current_app.connection_for_read() as connection:
        return connection.default_channel.client.llen("celery")


def believe_the_hint(tenant: Tenant, state: Any) -> None:
    """Redis forgets a hint after two seconds. On a slow machine that would be in the middle of a test."""
    assert state.persist(keys.Keys(partition_of(tenant.token)).hinted)


def begin_drain(tenant: Tenant) -> None:
    """Does what a drain does when it starts, after its hint has waited for DRAIN_DELAY."""
    stream.begin_drain([partition_of(tenant.token)])
    hints.due.clear()


def test_many_writes_request_one_drain_until_it_starts(ours: Tenant, state: Any) -> None:
    # Given an application whose log is empty and whose drain has begun,
    drain_all()
    begin_drain(ours)
    before = waiting_tasks()

    # when it gets a burst of writes,
    ours.chat()
    believe_the_hint(ours, state)
    for _ in range(20):
        ours.message(1)

    # then one drain is requested; once that has started, the next write requests another one.
    assert waiting_tasks() == before + 1
    begin_drain(ours)
    ours.message(1)
    assert waiting_tasks() == before + 2


def test_a_write_at_the_end_of_a_drain_requests_the_next_one(ours: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given a drain that has found the log empty, and has not ended yet,
    ours.chat()
    hints.due.clear()
    before = waiting_tasks()
    remove = stream.remove

    def empty_then_write(*args: Any) -> None:
        remove(*args)
        assert not stream.lengths()
        ours.message(1, "late")

    # when a message is posted, then it requests a drain of its own.
    with monkeypatch.context() as patched:
        patched.setattr(stream, "remove", empty_then_write)
        drain([partition_of(ours.token)])
    assert stream.lengths() == {partition_of(ours.token): 1}
    assert waiting_tasks() == before + 1


@pytest.mark.parametrize("taken", [False, True])
def test_events_during_a_drain_are_left_to_the_next_one_unless_that_has_already_run(
    ours: Tenant, state: Any, monkeypatch: pytest.MonkeyPatch, taken: bool
) -> None:
    # Given a drain that has read the log,
    ours.chat()
    partition = partition_of(ours.token)
    read = stream.read

    def read_then_write(*args: int) -> list[Event]:
        monkeypatch.setattr(stream, "read", read)
        found = read(*args)
        ours.message(1, "late")
        believe_the_hint(ours, state)
        if taken:
            stream.begin_drain([partition])
        return found

    # when a message is posted, and the drain that it requests has or has not run yet,
    monkeypatch.setattr(stream, "read", read_then_write)
    drain([partition])

    # then the message is stored, or left to the drain that still has to run.
    assert Message.objects.count() == taken
    assert stream.lengths() == ({} if taken else {partition: 1})


def test_a_drain_starts_a_fixed_time_after_its_hint(ours: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    now, waits = 1_800_000_000.0, []
    clock = SimpleNamespace(time=lambda: now, sleep=waits.append)
    ours.chat()
    # Given hints from now, from a moment ago, from long ago, and from a clock that is far ahead,
    for hinted_at, wait in ((now, 0.6), (now - 0.4, 0.2), (now - 9, 0), (0.0, 0), (now + 9_000, 0.6)):
        ours.message(1)
        # when their drains run, then each waits for the rest of the gathering time.
        with monkeypatch.context() as patched:
            patched.setattr(tasks, "time", clock)
            drain_waiting(0, hinted_at)
        assert waits.pop() == pytest.approx(wait)
        assert not stream.lengths()


def test_a_broker_that_is_down_costs_no_write(ours: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given a broker that refuses hints,
    ours.chat()
    begin_drain(ours)

    def away(*args: object) -> None:
        raise OperationalError("away")

    with monkeypatch.context() as patched:
        patched.setattr(drain_waiting, "delay", away)

        # when a message is posted, then it is acknowledged and readable,
        ours.message(1, "kept")
        assert ours.get("/chats/1/messages/1")["body"] == "kept"

    # and the sweep requests the drain.
    before = waiting_tasks()
    sweep()
    assert waiting_tasks() == before + 1
    drain_waiting(0)
    assert Message.objects.get().body == "kept"


def test_a_silent_broker_delays_one_request_and_not_all_of_them(ours: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given a broker that does not answer, and writes to several partitions,
    assert append.COOLDOWN <= 2, "the sweep comes as often"
    monkeypatch.setattr(append, "COOLDOWN", 3_600.0)
    ours.chat()
    begin_drain(ours)
    asked = []

    def silent(partition: int, hinted_at: float) -> None:
        asked.append(partition)
        raise OperationalError("timed out")

    with monkeypatch.context() as patched:
        patched.setattr(drain_waiting, "delay", silent)
        for _ in range(3):
            stream.begin_drain([partition_of(ours.token)])
            ours.message(1, "kept")
    assert len(asked) == 1
    assert 0 < hints.asks_at - time.monotonic() <= append.COOLDOWN

    # when the cooldown is over, then the broker is asked again.
    before = waiting_tasks()
    monkeypatch.setattr(hints, "asks_at", time.monotonic())
    begin_drain(ours)
    ours.message(1, "kept")
    assert waiting_tasks() == before + 1


def test_lost_hints_and_dead_workers_expire_as_documented(ours: Tenant, state: Any) -> None:
    sweep()
    ours.chat()

    # -1 means no expiry, and -2 no such key.
    assert -1 != state.pttl(keys.Keys(partition_of(ours.token)).hinted) <= 2_000
    assert -1 != state.pttl("{0}:heartbeat") <= 15_000


def test_a_drain_whose_turn_is_over_requests_the_next_one(ours: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given more events than a drain stores in one turn,
    monkeypatch.setattr(drain_module, "BATCH", 2)
    monkeypatch.setattr(tasks, "DRAIN_TURN", 0.0)
    for _ in range(3):
        ours.chat()
    before = waiting_tasks()

    # when its turn is over, then it requests another one, which runs after those of the other partitions.
    drain_waiting(0)
    assert stream.lengths() == {partition_of(ours.token): 2}
    assert waiting_tasks() == before + 1


def test_a_sweep_of_an_empty_log_requests_no_drain_and_sends_a_heartbeat(state: Any, transactional_db: None) -> None:
    sweep()

    assert waiting_tasks() == 0
    stats.expect_workers()


def test_a_drain_of_an_empty_partition_begins_no_transaction(
    state: Any, django_assert_num_queries: Any, db: None
) -> None:
    with django_assert_num_queries(0):
        drain_waiting(0)


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
