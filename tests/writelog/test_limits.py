"""The limits of an application in the log: events and bytes are counted exactly and refused beyond the limit."""

from __future__ import annotations

import secrets
from typing import Any

import pytest
from django.core.checks import run_checks

from applications.models import Application
from chatsystem.writelog import dead_events, stream, tasks
from chatsystem.writelog.append import Write, append
from chatsystem.writelog.drain import drain
from chatsystem.writelog.exceptions import LogFull
from chatsystem.writelog.keys import Keys, partition_of
from chatsystem.writelog.models import DeadEvent, Partition
from chatsystem.writelog.redis_client import client
from tests.support.harness import RealRedis, Tenant, drain_all
from tests.support.places import nothing_left_behind

#: Four bytes in UTF-8.
WIDE = "\N{GRINNING FACE}"


def usage(tenant: Tenant) -> tuple[int, int]:
    """Returns the tenant's usage of the log as Redis counts it: events, and bytes of their texts."""
    found = client(0).hget(Keys(partition_of(tenant.token)).usage, tenant.token) or "0 0"
    events, size = found.split(" ")
    return int(events), int(size)


def in_the_log(tenant: Tenant) -> tuple[int, int]:
    """Returns the same, counted event by event."""
    events = stream.read({partition_of(tenant.token): 10_000})[partition_of(tenant.token)].events
    own = [event for event in events if event.path.partition("/")[0] == tenant.token]
    return len(own), sum(len(event.text.encode()) for event in own)


def neighbour(tenant: Tenant) -> Tenant:
    """Returns another application of the same partition."""
    token = secrets.token_hex(16)
    while partition_of(token) != partition_of(tenant.token):
        token = secrets.token_hex(16)
    append(token, Write("create", "", token, ["neighbour"], can_have_children=True), {})
    return Tenant(tenant.api, token)


def refused(tenant: Tenant, data: Any) -> bool:
    """Returns whether a POST to chat 1 is a 503 with Retry-After that changes nothing."""
    with nothing_left_behind():
        response = tenant.api.post(f"{tenant.path}/chats/1/messages", data, format="json")
    return (response.status_code, response.headers.get("Retry-After")) == (503, "1")


def test_writes_beyond_the_limit_of_events_are_refused_and_change_nothing(ours: Tenant, settings: Any) -> None:
    # Given an application that may have 3 events in the log and has 2,
    ours.chat()
    settings.WRITE_LOG_MAX_EVENTS = 3

    # then a batch of two is refused as a whole, one message is accepted as number 1, and the next is refused
    assert refused(ours, [{"body": "a"}, {"body": "b"}])
    assert ours.message(1, "fits")["number"] == 1
    assert refused(ours, {"body": "x"})
    with pytest.raises(LogFull):
        append(ours.token, Write("update", ours.token, "1", ["x"]), {})

    # until they are stored.
    drain_all()
    assert ours.message(1, "fits again")["number"] == 2


def test_writes_beyond_the_limit_of_bytes_are_refused_and_change_nothing(ours: Tenant, settings: Any) -> None:
    # Given an application that may add 10 bytes to the log,
    ours.chat()
    settings.WRITE_LOG_MAX_BYTES = usage(ours)[1] + 10

    # then the limit counts the bytes of all texts together
    assert refused(ours, {"body": WIDE * 3})
    assert refused(ours, [{"body": WIDE * 2}, {"body": "abc"}])
    assert ours.message(1, WIDE * 2)["number"] == 1
    assert refused(ours, {"body": "abc"})
    assert ours.message(1, "ab")["number"] == 2

    # until they are stored.
    drain_all()
    assert ours.message(1, WIDE * 3)["number"] == 3


def test_a_neighbour_in_the_same_partition_is_not_refused_with_the_one_that_floods_it(
    ours: Tenant, settings: Any
) -> None:
    ours.chat()
    theirs = neighbour(ours)
    theirs.chat()
    settings.WRITE_LOG_MAX_EVENTS = 3
    ours.message(1)
    assert refused(ours, {"body": "x"})

    assert theirs.message(1)["number"] == 1
    assert refused(theirs, {"body": "x"})


def test_every_valid_request_fits_into_an_empty_log(ours: Tenant, settings: Any) -> None:
    ours.chat()
    drain_all()
    # The minimum values of the settings.
    settings.WRITE_LOG_MAX_EVENTS = 1_000
    settings.WRITE_LOG_MAX_BYTES = settings.MAX_REQUEST_BYTES

    assert len(ours.batch(1, ["x" * 4_100] * 1_000)) == 1_000


def test_usage_is_what_the_log_holds_through_creates_updates_batches_and_partial_drains(
    ours: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given two applications of one partition, with texts of many lengths,
    theirs = neighbour(ours)
    for tenant in (ours, theirs):
        tenant.chat(WIDE)
        tenant.batch(1, [WIDE * i for i in range(1, 8)])
        tenant.api.patch(f"{tenant.path}/chats/1/messages/3", {"body": "changed"}, format="json")
        assert usage(tenant) == in_the_log(tenant)

    # when they are drained a few events at a time, then at each step usage is what is left.
    monkeypatch.setattr("chatsystem.writelog.drain.BATCH", 4)
    partition = partition_of(ours.token)
    while partition in stream.lengths():
        drain([partition], seconds=0)
        assert usage(ours) == in_the_log(ours)
        assert usage(theirs) == in_the_log(theirs)
        # An application without events has no entry. Otherwise a log that is never empty would keep all of them.
        waiting = {event.path.partition("/")[0] for event in stream.read({partition: 10_000})[partition].events}
        assert set(client(0).hkeys(Keys(partition).usage)) == waiting
    assert not client(0).exists(Keys(partition).usage)


def test_a_removal_that_runs_twice_or_late_is_counted_once(ours: Tenant) -> None:
    # Given two removals that overlap, of batches that one drain after the other has read,
    ours.chat()
    ours.batch(1, ["a", "bb", "ccc", "dddd"])
    partition = partition_of(ours.token)
    events = stream.read({partition: 100})[partition].events
    early, all_but_one = events[:3], events[:-1]

    # when they run in any order, and one of them twice,
    stream.remove([stream.Removal(partition, early[-1].arrival, early)])
    assert usage(ours) == in_the_log(ours) == (3, 9)
    stream.remove([stream.Removal(partition, all_but_one[-1].arrival, all_but_one)])
    assert usage(ours) == in_the_log(ours) == (1, 4)
    stream.remove([stream.Removal(partition, all_but_one[-1].arrival, all_but_one)])
    stream.remove([stream.Removal(partition, early[-1].arrival, early)])

    # then usage is still what is left.
    assert usage(ours) == in_the_log(ours) == (1, 4)


def test_dead_events_count_as_no_usage_neither_before_nor_after_a_replay(ours: Tenant) -> None:
    # Given a message that waits behind a chat that died,
    drain_all()
    row = Application.objects.get()
    Application.objects.all().delete()
    ours.chat("dead")
    drain_all()
    assert usage(ours) == (0, 0)
    row.save(force_insert=True)
    ours.message(1, "waits")

    # when the chat is replayed, then the usage is the message's alone.
    assert dead_events.replay(DeadEvent.objects.get())
    assert usage(ours) == in_the_log(ours) == (1, 5)


def test_dead_events_of_a_drain_that_died_before_its_removal_stay_readable(
    ours: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a drain that made an event a dead letter and died before it could remove anything,
    drain_all()
    Application.objects.all().delete()
    ours.chat("acknowledged")
    with monkeypatch.context() as patched:
        patched.setattr(stream, "remove", _die)
        with pytest.raises(KeyboardInterrupt):
            drain_all()
    assert DeadEvent.objects.count() == 1

    # when the next one removes the stored events,
    drain_all()

    # then reads still show what was acknowledged.
    assert not stream.lengths()
    assert ours.get("/chats/1")["title"] == "acknowledged"


def test_replaying_an_event_that_is_still_in_the_log_leaves_the_usage_as_it_is(
    ours: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a dead event whose drain died before it could remove it,
    drain_all()
    row = Application.objects.get()
    Application.objects.all().delete()
    ours.chat("replayed")
    with monkeypatch.context() as patched:
        patched.setattr(stream, "remove", _die)
        with pytest.raises(KeyboardInterrupt):
            drain_all()
    row.save(force_insert=True)

    # when it is replayed, then the log and the usage agree until the next drain.
    assert dead_events.replay(DeadEvent.objects.get())
    assert usage(ours) == in_the_log(ours) == (1, 8)
    drain_all()
    assert usage(ours) == in_the_log(ours) == (0, 0)
    assert ours.get("/chats/1")["title"] == "replayed"


def test_a_restarted_redis_keeps_the_usage_of_its_log(ours: Tenant, redis_server: RealRedis) -> None:
    ours.chat()
    ours.batch(1, ["a", "bb"])
    redis_server.restart()
    assert usage(ours) == in_the_log(ours)

    drain_all()

    assert usage(ours) == (0, 0)


def test_usage_that_an_older_redis_brought_back_is_forgotten_with_an_empty_log(ours: Tenant, state: Any) -> None:
    state.hset(Keys(partition_of(ours.token)).usage, ours.token, "99999 99999999")

    drain_all()

    assert usage(ours) == (0, 0)


def test_a_full_redis_refuses_writes_and_is_emptied_by_the_sweep(
    ours: Tenant, state: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a full Redis,
    ours.chat()
    ours.batch(1, ["x" * 10_000] * 100)
    state.config_set("maxmemory", state.info("memory")["used_memory"] - 200_000)
    try:
        # then nothing is accepted,
        assert refused(ours, {"body": "y"})
        assert ours.api.get("/health/ready").status_code == 503

        # earlier writes are still read, and the sweep drains them, although its heartbeat is refused too,
        assert ours.get("/chats/1/messages/100")["body"] == "x" * 10_000
        # Without the broker: where a Redis can be full, the broker is another one.
        monkeypatch.setattr(tasks.drain_waiting, "delay", tasks.drain_waiting)
        tasks.sweep()
        assert not stream.lengths()
        assert Partition.objects.get(pk=partition_of(ours.token)).drained_through

        # which makes room again.
        assert ours.message(1)["number"] == 101
    finally:
        state.config_set("maxmemory", 0)


def test_the_check_reports_a_broker_that_fills_up_with_the_state_redis(ours: Tenant, state: Any, settings: Any) -> None:
    def found() -> list[str | None]:
        return [error.id for error in run_checks(databases=["default"]) if error.id == "chatsystem.W003"]

    assert found() == []
    state.config_set("maxmemory", 2**30)
    try:
        assert found() == ["chatsystem.W003"]
        settings.BROKER_URL = "redis://elsewhere:6379/0"
        assert found() == []
    finally:
        state.config_set("maxmemory", 0)


def _die(*args: object) -> None:
    raise KeyboardInterrupt
