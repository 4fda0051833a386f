"""The drain: in bulk, in order, exactly once, the last write by arrival wins, poison becomes a dead letter."""

from __future__ import annotations

import multiprocessing
import os
from typing import Any

import pytest
from django.db import OperationalError, connection, connections

from chats.models import Chat
from chatsystem.writelog import bulk, stats, stream
from chatsystem.writelog import drain as drain_module
from chatsystem.writelog.bulk import insert
from chatsystem.writelog.counts import reconcile_due
from chatsystem.writelog.database_errors import CONNECTION_LOST
from chatsystem.writelog.drain import drain
from chatsystem.writelog.events import CREATE, UPDATE, Event, fold, to_datetime, to_micros
from chatsystem.writelog.keys import Keys, partition_of
from chatsystem.writelog.models import DeadEvent, Partition
from chatsystem.writelog.redis_client import client
from messages_app.models import Message
from search.models import OutboxEntry
from tests.support.harness import Tenant, drain_all, forget_redis, in_threads


def test_a_drain_stores_what_was_acknowledged_and_empties_the_log(ours: Tenant, theirs: Tenant, state: Any) -> None:
    # Given writes of two tenants, some of them updates,
    ours.chat("title")
    acknowledged = ours.batch(1, ["one", "two"])
    ours.api.patch(f"{ours.path}/chats/1/messages/2", {"body": "two, edited"}, format="json")
    ours.api.patch(f"{ours.path}/chats/1", {"title": "title, edited"}, format="json")

    # when the log is drained,
    drain_all()

    # then the rows equal what was acknowledged to each tenant, and nothing is left in the log or the pending view.
    mine = Message.objects.filter(chat__application__token=ours.token).order_by("number")
    assert [message.body for message in mine] == ["one", "two, edited"]
    assert [to_micros(m.created_at) for m in mine] == [_micros(m["created_at"]) for m in acknowledged]
    assert Chat.objects.get(application__token=ours.token).title == "title, edited"
    assert Message.objects.get(chat__application__token=theirs.token).body == "theirs"
    assert stream.lengths() == {}
    assert state.keys("*:pending") == []


def test_counts_are_right_after_the_drain_without_a_reconcile(ours: Tenant, theirs: Tenant) -> None:
    for _ in range(3):
        ours.chat()
    ours.batch(1, ["a"] * 7)
    ours.batch(3, ["b"] * 2)
    drain_all()

    assert ours.get()["chats_count"] == 3
    assert [chat["messages_count"] for chat in ours.get("/chats")["results"]] == [7, 0, 2]
    assert theirs.get()["chats_count"] == 1
    # An update does not change a count.
    ours.api.patch(f"{ours.path}/chats/3/messages/1", {"body": "edited"}, format="json")
    drain_all()
    assert ours.get("/chats/3")["messages_count"] == 2
    assert reconcile_due() == []


def test_a_drain_that_dies_between_commit_and_removal_stores_nothing_twice(
    ours: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a drain that committed and died before it could empty the log,
    ours.chat()
    ours.batch(1, ["one", "two"])
    partition = partition_of(ours.token)
    with monkeypatch.context() as patched:
        patched.setattr(stream, "remove", _die)
        with pytest.raises(SystemExit):
            drain([partition])
    assert partition in stream.lengths()

    # when the next one drains,
    drain([partition])

    # then each message is stored once, the counts are right, and the log is empty.
    assert Message.objects.count() == 2
    assert Chat.objects.get().messages_count == 2
    assert stream.lengths() == {}
    assert reconcile_due() == []


def test_a_drain_that_dies_in_the_middle_of_its_removal_loses_and_doubles_nothing(
    ours: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a drain that committed, removed a part of its events from Redis, and died,
    ours.chat()
    drain_all()
    ours.batch(1, ["stored"] * 7)
    partition = partition_of(ours.token)
    counted = stats.counted()[stats.STORED]
    run_each = stream.run_each

    def remove_and_die(*args: Any) -> None:
        run_each(*args)
        raise SystemExit

    with monkeypatch.context() as patched:
        patched.setattr(stream, "REMOVED_AT_ONCE", 3)
        patched.setattr(stream, "run_each", remove_and_die)
        with pytest.raises(SystemExit):
            drain([partition])
    assert stream.lengths() == {partition: 4}

    # when a message is posted to what is left, and the next one drains,
    ours.message(1, "after it")
    drain([partition])

    # then each message is stored once, the counts are right, nothing waits, and the metrics count every event.
    assert [m.body for m in Message.objects.order_by("number")] == ["stored"] * 7 + ["after it"]
    assert Chat.objects.get().messages_count == 8
    assert stream.lengths() == {}
    assert client(0).keys("*:pending") == []
    assert stats.counted()[stats.STORED] >= counted + 8


def test_a_drain_that_dies_after_its_commit_has_filled_the_outbox(
    ours: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a drain that dies right after its commit,
    ours.chat()
    ours.message(1, "to be found")
    commit = connection._commit

    def commit_and_die() -> None:
        commit()
        raise SystemExit

    with monkeypatch.context() as patched:
        patched.setattr(connection, "_commit", commit_and_die)
        with pytest.raises(SystemExit):
            drain([partition_of(ours.token)])
    connection.close()

    # then the message is stored and is in the outbox.
    (message,) = Message.objects.all()
    assert OutboxEntry.objects.get().messages == [[message.chat_id, [1]]]


def test_a_drain_that_dies_before_commit_leaves_everything_in_the_log(
    ours: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours.chat()
    ours.message(1, "kept")
    partition = partition_of(ours.token)
    with monkeypatch.context() as patched:
        patched.setattr(Partition.objects, "bulk_update", _die)
        with pytest.raises(SystemExit):
            drain([partition])

    assert Message.objects.count() == 0
    assert ours.get("/chats/1/messages/1")["body"] == "kept"
    drain([partition])
    assert Message.objects.get().body == "kept"


def test_a_late_removal_takes_only_what_its_drain_has_stored(ours: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given a drain that is stopped between its commit and its removal,
    ours.chat()
    ours.batch(1, ["one", "two"])
    partition = partition_of(ours.token)
    remove = stream.remove

    def remove_late(*args: Any) -> None:
        # when another one empties the log meanwhile, and two messages arrive,
        monkeypatch.setattr(stream, "remove", remove)
        drain([partition])
        ours.batch(1, ["three", "four"])
        remove(*args)

    monkeypatch.setattr(stream, "remove", remove_late)
    drain_module._drain_group({partition: 1_000}, skip=False)

    # then its removal leaves them in the log.
    assert stream.lengths() == {partition: 2}
    drain([partition])
    assert Message.objects.count() == 4


def test_an_update_that_arrives_while_its_entity_is_being_stored_stays_readable(
    ours: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a drain that has read a message's create and not yet removed it,
    ours.chat()
    ours.message(1, "as created")
    remove = stream.remove

    def update_then_remove(*args: Any) -> None:
        ours.api.patch(f"{ours.path}/chats/1/messages/1", {"body": "as edited"}, format="json")
        remove(*args)

    # when an update arrives before it removes what it stored,
    with monkeypatch.context() as patched:
        patched.setattr(stream, "remove", update_then_remove)
        drain_module._drain_group({partition_of(ours.token): 1_000}, skip=False)

    # then reads show the update, and it is stored with the next drain.
    assert Message.objects.get().body == "as created"
    assert ours.get("/chats/1/messages/1")["body"] == "as edited"
    drain_all()
    assert Message.objects.get().body == "as edited"


def test_of_many_messages_that_are_stored_those_edited_meanwhile_stay_readable(
    ours: Tenant, state: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a drain that has stored more messages than one removal takes,
    ours.chat()
    drain_all()
    ours.batch(1, ["as posted"] * 250)
    partition = partition_of(ours.token)
    edited = [1, 100, 101, 177, 250]
    remove = stream.remove

    def edit_then_remove(*args: Any) -> None:
        for number in edited:
            ours.api.patch(f"{ours.path}/chats/1/messages/{number}", {"body": f"edited {number}"}, format="json")
        remove(*args)

    # when some of them are edited before it removes what it stored,
    with monkeypatch.context() as patched:
        patched.setattr(stream, "remove", edit_then_remove)
        drain_module._drain_group({partition: 1_000}, skip=False)

    # then only those are still pending, with their new texts.
    pending = state.hgetall(Keys(partition).pending)
    assert sorted(pending) == sorted(f"{ours.token}/1/{number}" for number in edited)
    assert {ours.get(f"/chats/1/messages/{number}")["body"] for number in edited} == {f"edited {n}" for n in edited}


def test_events_that_come_back_with_an_older_redis_are_not_stored_again(ours: Tenant, state: Any) -> None:
    # Given messages that were stored, and a log that holds them again,
    ours.chat()
    ours.message(1, "one")
    keys = Keys(partition_of(ours.token))
    old_log, old_pending = state.dump(keys.log), state.dump(keys.pending)
    ours.api.patch(f"{ours.path}/chats/1/messages/1", {"body": "one, edited"}, format="json")
    drain_all()
    state.restore(keys.log, 0, old_log, replace=True)
    state.restore(keys.pending, 0, old_pending, replace=True)

    # when it is drained,
    drain_all()

    # then the newer text stays, no row and no count is duplicated, and the log is empty.
    assert Message.objects.get().body == "one, edited"
    assert Chat.objects.get().messages_count == 1
    assert stream.lengths() == {}
    assert state.keys("*:pending") == []


def test_the_later_arrival_wins_in_whatever_order_two_updates_are_stored(ours: Tenant) -> None:
    # Given a stored message,
    ours.chat()
    ours.message(1, "as created")
    drain_all()
    path = f"{ours.token}/1/1"
    now = to_micros(Message.objects.get().last_request_time)

    # when an update is stored after one that arrived later than it,
    drain_module.store([Event(now + 20, UPDATE, path, "later")])
    drain_module.store([Event(now + 10, UPDATE, path, "earlier")])

    # then the later one stays, also within one batch.
    assert Message.objects.get().body == "later"
    drain_module.store([Event(now + 40, UPDATE, path, "latest"), Event(now + 30, UPDATE, path, "before it")])
    assert Message.objects.get().body == "latest"


def test_folding_keeps_the_create_and_the_newest_text() -> None:
    events = [Event(1, CREATE, "t/1", "a"), Event(3, UPDATE, "t/1", "c"), Event(2, UPDATE, "t/1", "b")]

    (change,) = fold(events)

    assert (change.created, change.arrival, change.text) == (1, 3, "c")


@pytest.mark.parametrize("micros", [0, 1, 120_000, 999_999])
def test_times_are_stored_as_django_would_store_them(micros: int) -> None:
    # Found by comparing, since SQLite stores times as text.
    arrival = 1_700_000_000_000_000 + micros
    adapted = connection.ops.adapt_datetimefield_value(to_datetime(arrival))

    moment = bulk.moments()

    assert moment(arrival) == f"'{adapted}'"
    assert moment(arrival) == f"'{adapted}'", "the second time"


def test_five_drains_at_once_store_everything_once(ours: Tenant, theirs: Tenant) -> None:
    # Given 600 messages of two tenants in the log,
    ours.chat()
    for _ in range(6):
        ours.batch(1, ["x"] * 50)
        theirs.batch(1, ["y"] * 50)

    # when five workers drain all partitions at once,
    def work(_: int) -> None:
        for partition in (partition_of(ours.token), partition_of(theirs.token)):
            drain([partition], skip=True)

    in_threads(work, range(5))
    drain_all()

    # then each message is stored once, and the counts are right.
    assert Message.objects.count() == 601
    assert sorted(Chat.objects.values_list("messages_count", flat=True)) == [300, 301]
    assert reconcile_due() == []


def test_a_drain_killed_with_sigkill_frees_its_partition_at_once(ours: Tenant) -> None:
    # Given a process that holds the partition in the middle of its transaction,
    ours.chat()
    ours.message(1, "survives")
    connections.close_all()
    context = multiprocessing.get_context("fork")
    holding, hold = context.Event(), context.Event()
    process = context.Process(target=_drain_and_hang, args=(partition_of(ours.token), holding, hold))
    process.start()
    assert holding.wait(60)

    # when it is killed,
    process.kill()
    process.join()

    # then the next drain stores what it left.
    assert drain([partition_of(ours.token)]) > 0
    assert Message.objects.get().body == "survives"


def test_a_poison_event_becomes_a_dead_event_and_its_neighbours_are_stored(ours: Tenant, state: Any) -> None:
    # Given an event in the middle of a batch that no table can hold,
    ours.chat()
    ours.message(1, "before")
    clock = Keys(partition_of(ours.token)).clock
    poison = int(state.get(clock)) + 1
    state.set(clock, poison)
    entry = {"verb": "update", "path": f"{ours.token}/1/99", "text": "of a message that never was"}
    state.xadd(Keys(partition_of(ours.token)).log, entry, id=f"{poison}-0")
    ours.message(1, "after")

    # when the log is drained,
    drain_all()

    # then its neighbours are stored, and it is a dead event with its error.
    assert list(Message.objects.order_by("number").values_list("body", flat=True)) == ["before", "after"]
    dead = DeadEvent.objects.get()
    assert (dead.path, dead.text, dead.arrival) == (entry["path"], entry["text"], poison)
    assert "PoisonEvent" in dead.error
    assert stream.lengths() == {}


def test_an_acknowledged_create_that_cannot_be_stored_stays_readable(
    ours: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a message that the database refuses,
    ours.chat()
    drain_all()
    ours.message(1, "refused")
    with monkeypatch.context() as patched:
        patched.setattr(bulk, "insert", _refuse)
        drain_all()

    # then it is a dead event, and reads still show it.
    assert DeadEvent.objects.get().path == f"{ours.token}/1/1"
    assert ours.get("/chats/1/messages/1")["body"] == "refused"
    assert [m["body"] for m in ours.get("/chats/1/messages")["results"]] == ["refused"]


def test_a_dead_event_stays_readable_when_its_drain_dies_before_the_removal(
    ours: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a drain that committed a message as a dead event and died before it could empty the log,
    ours.chat()
    ours.message(1, "refused")
    partition = partition_of(ours.token)
    with monkeypatch.context() as patched:
        patched.setattr(bulk, "insert", _refuse)
        patched.setattr(stream, "remove", _die)
        with pytest.raises(SystemExit):
            drain([partition])

    # when the next one empties it, then reads still show the message.
    drain([partition])
    assert stream.lengths() == {}
    assert DeadEvent.objects.get().text == "refused"
    assert ours.get("/chats/1/messages/1")["body"] == "refused"


def test_a_connection_that_breaks_while_a_refused_row_is_rolled_back_retries_the_batch(
    ours: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a message that the database refuses once, and a connection that breaks right then,
    ours.chat()
    drain_all()
    ours.message(1, "stored in the end")
    broken = iter([True])

    def break_once(execute: Any, sql: str, *args: Any) -> Any:
        if sql.startswith("ROLLBACK TO") and next(broken, False):
            raise OperationalError(CONNECTION_LOST, "lost")
        return execute(sql, *args)

    refusals = iter([ValueError("refused")])

    def refuse_once(*args: Any) -> None:
        for refusal in refusals:
            raise refusal
        insert(*args)

    # when it is drained, then a retry stores it, and there is no dead event.
    monkeypatch.setattr(bulk, "insert", refuse_once)
    with connection.execute_wrapper(break_once):
        drain([partition_of(ours.token)])
    assert next(broken, None) is None
    assert Message.objects.get().body == "stored in the end"
    assert DeadEvent.objects.count() == 0


def test_a_database_that_is_down_makes_no_dead_events(ours: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    ours.chat()
    with monkeypatch.context() as patched:
        patched.setattr(bulk, "insert", _database_away)
        with pytest.raises(OperationalError):
            drain([partition_of(ours.token)])

    assert DeadEvent.objects.count() == 0
    assert drain_all() == 2


def _drain_and_hang(partition: int, holding: Any, hold: Any) -> None:
    def hang(events: list[Event]) -> list:
        holding.set()
        hold.wait()
        os._exit(1)

    forget_redis()
    drain_module.store = hang
    drain([partition])


def _die(*args: object, **kwargs: object) -> None:
    raise SystemExit


def _refuse(model: Any, *args: Any) -> None:
    if model is Message:
        raise ValueError("refused by the database")
    insert(model, *args)


def _database_away(*args: object, **kwargs: object) -> None:
    raise OperationalError("away")


def _micros(text: str) -> int:
    from datetime import datetime

    return to_micros(datetime.fromisoformat(text.replace("Z", "+00:00")))
