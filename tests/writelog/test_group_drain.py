"""A drain of several partitions: one transaction, no neighbour harmed, no short log behind a long one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.db import DataError, OperationalError, connection
from django.test.utils import CaptureQueriesContext
from rest_framework.test import APIClient

from chats.models import Chat
from chatsystem.writelog import append, rollback_guard, stream, tasks
from chatsystem.writelog import drain as drain_module
from chatsystem.writelog.append import hints
from chatsystem.writelog.counts import reconcile_due
from chatsystem.writelog.drain import drain
from chatsystem.writelog.keys import PARTITIONS, Keys, partition_of
from chatsystem.writelog.models import DeadEvent, Partition
from chatsystem.writelog.redis_client import client
from messages_app.models import Message
from tests.support.harness import Tenant, drain_all, in_threads

ALL = range(PARTITIONS)


@pytest.fixture
def tenants(api: APIClient) -> list[Tenant]:
    """Five tenants with a chat each, all in different partitions."""
    found: dict[int, Tenant] = {}
    while len(found) < 5:
        tenant = Tenant.new(api, "one of five")
        if found.setdefault(partition_of(tenant.token), tenant) is tenant:
            tenant.chat()
    drain_all()
    return [found[partition] for partition in sorted(found)]


def bodies(tenant: Tenant) -> list[str]:
    return list(
        Message.objects.filter(chat__application__token=tenant.token).order_by("number").values_list("body", flat=True)
    )


@pytest.fixture
def refusing() -> Iterator[None]:
    """The database refuses messages with the text 'refused', as a column does that cannot hold it."""

    def refuse(execute: Any, sql: str, params: Any, *rest: Any) -> Any:
        if sql.startswith("INSERT") and "messages_app_message" in sql and "refused" in (params or ()):
            raise DataError("refused")
        return execute(sql, params, *rest)

    with connection.execute_wrapper(refuse):
        yield


def test_more_partitions_take_no_more_statements(tenants: list[Tenant]) -> None:
    def statements(of: list[Tenant]) -> int:
        for tenant in of:
            tenant.message(1, "new")
            tenant.api.patch(f"{tenant.path}/chats/1/messages/1", {"body": "edited"}, format="json")
        with CaptureQueriesContext(connection) as captured:
            assert drain(ALL) == 2 * len(of)
        return len(captured)

    # Message 1 of each is stored then, so that there are rows to update.
    statements(tenants)
    assert statements(tenants) == statements(tenants[:1])


def test_an_event_that_is_refused_harms_no_other_partition(tenants: list[Tenant], refusing: None) -> None:
    # Given messages of five partitions, one of which the database refuses,
    for number, tenant in enumerate(tenants):
        tenant.batch(1, ["before", "refused" if number == 2 else "between", "after"])

    # when one drain stores them,
    assert drain(ALL) == 15

    # then all others are stored, and the dead letter belongs to its partition.
    assert [bodies(tenant) for tenant in tenants] == [
        ["before", "after"] if number == 2 else ["before", "between", "after"] for number in range(5)
    ]
    dead = DeadEvent.objects.get()
    assert (dead.partition_id, dead.text) == (partition_of(tenants[2].token), "refused")
    assert tenants[2].get("/chats/1/messages/2")["body"] == "refused"
    assert stream.lengths() == {}
    assert reconcile_due() == []


def test_an_error_of_the_database_that_nobody_knows_stops_no_other_partition(tenants: list[Tenant]) -> None:
    # Given messages of five partitions, and a database that fails on one of them with an error that is not of a row,
    for number, tenant in enumerate(tenants):
        tenant.message(1, "fails" if number == 2 else "stored")

    def fail(execute: Any, sql: str, params: Any, *rest: Any) -> Any:
        if sql.startswith("INSERT") and "fails" in (params or ()):
            raise OperationalError(9999, "unknown")
        return execute(sql, params, *rest)

    # when workers drain, then the others are stored, and the error is raised, so that it is in the log.
    with connection.execute_wrapper(fail), pytest.raises(OperationalError, match="unknown"):
        tasks.drain_waiting(0)
    assert [bodies(tenant) for tenant in tenants] == [["stored"]] * 2 + [[]] + [["stored"]] * 2
    assert not DeadEvent.objects.exists()

    # Once the database stores it, nothing is missing.
    drain(ALL)
    assert bodies(tenants[2]) == ["fails"]
    assert stream.lengths() == {}


def test_a_partition_that_is_ahead_of_its_database_halts_alone(tenants: list[Tenant]) -> None:
    # Given five partitions, for one of which the database is older than it was,
    for tenant in tenants:
        tenant.message(1, "waits")
    behind = partition_of(tenants[0].token)
    stored = Partition.objects.get(pk=behind).drained_through
    client(behind).set(Keys(behind).stored, stored + 1)

    # when workers drain, then the others are stored, and that one is halted and keeps its log.
    tasks.drain_waiting(0)
    assert [bodies(tenant) for tenant in tenants] == [[], *[["waits"]] * 4]
    assert rollback_guard.halted(ALL) == [behind]
    assert stream.lengths() == {behind: 1}


def test_a_drain_of_several_partitions_that_dies_before_the_removal_stores_nothing_twice(
    tenants: list[Tenant], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a drain that has committed five partitions, and emptied the log of one of them when it died,
    for tenant in tenants:
        tenant.batch(1, ["one", "two"])
    parts = stream._parts

    def die_early(removals: Any) -> Iterator[stream.Removal]:
        for number, part in enumerate(parts(removals)):
            if number == 2:
                raise SystemExit
            yield part

    with monkeypatch.context() as patched:
        patched.setattr(stream, "_parts", die_early)
        patched.setattr(stream, "REMOVED_AT_ONCE", 2)
        with pytest.raises(SystemExit):
            drain(ALL)
    assert len(stream.lengths()) == 4

    # when the next one drains, then each message is stored once, and the logs are empty.
    drain(ALL)
    assert [bodies(tenant) for tenant in tenants] == [["one", "two"]] * 5
    assert set(Chat.objects.values_list("messages_count", flat=True)) == {2}
    assert stream.lengths() == {}
    assert reconcile_due() == []


def test_a_long_log_delays_no_short_one(tenants: list[Tenant], monkeypatch: pytest.MonkeyPatch) -> None:
    # Given one partition with more events than a transaction takes, and others with a few,
    monkeypatch.setattr(drain_module, "BATCH", 10)
    tenants[0].batch(1, ["long"] * 35)
    for tenant in tenants[1:]:
        tenant.batch(1, ["short"] * 2)
    groups = taken_groups(monkeypatch)

    # when one drain stores them, then the short ones come first and together, and the long one in parts.
    assert drain(ALL) == 43
    assert groups == [[2, 2, 2, 2], [10], [10], [10], [5]]
    assert bodies(tenants[0]) == ["long"] * 35


def test_a_transaction_has_a_limited_size_in_bytes(tenants: list[Tenant], monkeypatch: pytest.MonkeyPatch) -> None:
    # Given texts of a hundred bytes (fifty characters), longer ones, and one that alone is more than the limit,
    long = [*["x" * 400] * 2, *["y"] * 3, "z" * 500]
    monkeypatch.setattr(drain_module, "BATCH_BYTES", 450)
    for tenant in tenants[:3]:
        tenant.batch(1, ["ä" * 50] * 2)
    tenants[3].batch(1, ["ä" * 50] * 6)
    tenants[4].batch(1, long)
    groups = taken_groups(monkeypatch)

    # when one drain stores them, then no transaction takes more, unless it is a single text.
    assert drain(ALL) == 18
    assert groups == [[2, 2], [2], [4], [1], [2], [2], [2], [1]]
    assert bodies(tenants[4]) == long


def taken_groups(monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """Collects how many events of each partition each transaction takes."""
    groups: list[list[int]] = []
    drain_group = drain_module._drain_group

    def spy(*args: Any) -> dict[int, int]:
        taken = drain_group(*args)
        groups.append(list(taken.values()))
        return taken

    monkeypatch.setattr(drain_module, "_drain_group", spy)
    return groups


def test_drains_that_share_the_partitions_store_everything_once(tenants: list[Tenant]) -> None:
    """They lock and update rows of the same table in different groups, and none may wait for another in a circle."""

    # When four workers drain all partitions while messages arrive,
    def work(number: int) -> None:
        for _ in range(15):
            if number == 0:
                for tenant in tenants:
                    tenant.batch(1, ["x"] * 7)
            drain(ALL, skip=True)

    in_threads(work, range(4))
    # On a slow machine, the server has ended this thread's idle connection.
    connection.close()
    drain(ALL)

    # then each message is stored once, and the counts are right.
    assert [len(bodies(tenant)) for tenant in tenants] == [105] * 5
    assert set(Chat.objects.values_list("messages_count", flat=True)) == {105}
    assert reconcile_due() == []


def test_a_drain_leaves_out_what_another_one_drains_and_that_one_stores_it(
    tenants: list[Tenant], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a drain that has read what waits, while more arrives, whose hint a second one takes,
    tenants[0].message(1, "first")
    read = stream.read
    second: list[int] = []

    def read_then_others(counts: dict[int, int]) -> dict[int, stream.Batch]:
        monkeypatch.setattr(stream, "read", read)
        found = read(counts)
        tenants[0].message(1, "late")
        in_threads(lambda _: second.append(drain(ALL, skip=True)), [0])
        return found

    monkeypatch.setattr(stream, "read", read_then_others)

    # when the second one finds the partition taken, then it stores nothing and does not wait,
    tasks.drain_waiting(0)
    assert second == [0]
    # and the first one stores what it left.
    assert bodies(tenants[0]) == ["first", "late"]
    assert stream.lengths() == {}


def test_a_process_hints_once_for_all_partitions_until_the_drain_starts(
    tenants: list[Tenant], monkeypatch: pytest.MonkeyPatch
) -> None:
    hinted: list[int] = []
    monkeypatch.setattr(tasks.drain_waiting, "delay", lambda partition, hinted_at: hinted.append(partition))
    # On a slow machine the drain would be due before the last message.
    monkeypatch.setattr(append, "INTERVAL", 3_600.0)
    hints.due.clear()

    for tenant in tenants:
        tenant.message(1)
    assert len(hinted) == 1

    # Its drain has started.
    stream.begin_drain(ALL)
    hints.due = {first: due - append.INTERVAL for first, due in hints.due.items()}
    for tenant in tenants:
        tenant.message(1)
    assert len(hinted) == 2
