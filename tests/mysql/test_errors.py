"""Errors of the server: retried if they pass, dead letters if the row is at fault, left in the log otherwise."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from django.db import DatabaseError, DataError, OperationalError, ProgrammingError, connection, transaction

from applications.models import Application
from chats.models import Chat
from chatsystem.writelog import drain as drain_module
from chatsystem.writelog import stream
from chatsystem.writelog.counts import reconcile_due
from chatsystem.writelog.drain import drain
from chatsystem.writelog.keys import partition_of
from chatsystem.writelog.models import DeadEvent, Partition
from messages_app.models import Message
from tests.support import environment
from tests.support.harness import Tenant, drain_all


def bodies() -> list[str]:
    return list(Message.objects.order_by("number").values_list("body", flat=True))


def altered(statement: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement)


@pytest.mark.parametrize(
    ("column", "back", "bad", "error"),
    [
        ("body varchar(20) NOT NULL", "body longtext NOT NULL", "longer than its column", DataError),
        ("body longtext CHARACTER SET utf8mb3 NOT NULL", "body longtext NOT NULL", "not of its 🐘", OperationalError),
        ("number tinyint unsigned NOT NULL", "number bigint unsigned NOT NULL", "number 256", DataError),
    ],
)
def test_a_row_that_the_server_refuses_becomes_a_dead_event_and_its_neighbours_are_stored(
    ours: Tenant, column: str, back: str, bad: str, error: type[DatabaseError]
) -> None:
    # Given a column that cannot hold one of the messages,
    ours.chat()
    drain_all()
    before = 255 if "number" in column else 1
    ours.batch(1, ["fine"] * before)
    ours.message(1, bad)
    ours.message(1, "fine") if before == 1 else None
    altered(f"ALTER TABLE messages_app_message MODIFY {column}")
    try:
        # when the log is drained,
        drain_all()
    finally:
        altered(f"ALTER TABLE messages_app_message MODIFY {back}")

    # then that one is a dead event with the server's error, and the others are stored.
    dead = DeadEvent.objects.get()
    assert dead.text == bad
    assert dead.error.startswith(error.__name__)
    assert set(bodies()) == {"fine"}
    assert Chat.objects.get().messages_count == len(bodies())
    assert stream.lengths() == {}


def test_a_missing_table_makes_no_dead_events(ours: Tenant) -> None:
    ours.chat()
    ours.message(1, "kept")
    altered("RENAME TABLE messages_app_message TO elsewhere")
    try:
        with pytest.raises(ProgrammingError):
            drain([partition_of(ours.token)])
    finally:
        altered("RENAME TABLE elsewhere TO messages_app_message")

    assert DeadEvent.objects.count() == 0
    drain_all()
    assert bodies() == ["kept"]


def kill_connection() -> None:
    environment.server.execute(f"KILL {connection.connection.thread_id()}")


@pytest.mark.parametrize("moment", ["before the rows", "after the rows", "at the commit"])
def test_a_lost_connection_retries_the_batch(ours: Tenant, monkeypatch: pytest.MonkeyPatch, moment: str) -> None:
    ours.chat()
    ours.message(1, "stored once")
    killed: list[int] = []

    def killing(original: Callable, before: bool) -> Callable:
        def call(*args: Any, **kwargs: Any) -> Any:
            if not killed and before:
                killed.append(1)
                kill_connection()
            result = original(*args, **kwargs)
            if not killed:
                killed.append(1)
                kill_connection()
            return result

        return call

    with monkeypatch.context() as patched:
        if moment == "at the commit":
            patched.setattr(Partition.objects, "bulk_update", killing(Partition.objects.bulk_update, before=False))
        else:
            patched.setattr(drain_module, "_write", killing(drain_module._write, before=moment == "before the rows"))
        assert drain([partition_of(ours.token)]) == 3

    assert killed
    assert bodies() == ["stored once"]
    assert reconcile_due() == []


def test_a_commit_whose_answer_is_lost_is_not_stored_twice(ours: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given a connection that is lost after the server has committed and before it answers,
    ours.chat()
    ours.message(1, "stored once")
    commit = connection._commit
    lost: list[int] = []

    def commit_and_lose() -> None:
        commit()
        if not lost:
            lost.append(1)
            raise OperationalError(2013, "Lost connection to server during query")

    # when the drain tries again,
    with monkeypatch.context() as patched:
        patched.setattr(connection._connections["default"], "_commit", commit_and_lose)
        drain([partition_of(ours.token)])

    # then it finds everything stored and only empties the log.
    assert lost
    assert bodies() == ["stored once"]
    assert Chat.objects.get().messages_count == 1
    assert DeadEvent.objects.count() == 0
    assert stream.lengths() == {}


def test_a_row_that_is_locked_for_long_is_retried(ours: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given another transaction that locks the application's row for longer than a statement waits,
    drain_all()
    ours.chat()
    holding, release = threading.Event(), threading.Event()

    def hold() -> None:
        with transaction.atomic():
            Application.objects.select_for_update().get(token=ours.token)
            holding.set()
            release.wait(60)
        connection.close()

    holder = threading.Thread(target=hold)
    holder.start()
    assert holding.wait(60)
    altered("SET SESSION innodb_lock_wait_timeout = 1")
    threading.Timer(1.6, release.set).start()

    # when the drain's first try times out, then a later one stores it.
    assert drain([partition_of(ours.token)]) == 1
    holder.join()
    assert Chat.objects.count() == 1


def test_a_drain_that_loses_a_deadlock_stores_its_batch_on_retry(ours: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given a transaction that has written many rows and waits for the row that the drain holds,
    ours.chat()
    ours.batch(1, ["there"] * 300)
    drain_all()
    other = Application.objects.create(token="f" * 32, name="x", **_times())
    ours.message(1, "stored once")
    wants = threading.Event()
    failures: list[BaseException] = []

    def rival() -> None:
        try:
            with transaction.atomic():
                Message.objects.update(body="changed")
                Application.objects.select_for_update().get(pk=other.pk)
                rival_holds.set()
                wants.wait(60)
                Chat.objects.select_for_update().get()
        except BaseException as failure:
            failures.append(failure)
        connection.close()

    rival_holds = threading.Event()
    thread = threading.Thread(target=rival)
    thread.start()
    assert rival_holds.wait(60)
    write = drain_module._write
    tries: list[int] = []

    def write_and_want(events: Any) -> None:
        write(events)
        tries.append(1)
        if len(tries) == 1:
            wants.set()
            # The drain holds its chat's row. The server rolls back the smaller transaction.
            Application.objects.select_for_update().get(pk=other.pk)

    # when the server resolves it against the drain,
    with monkeypatch.context() as patched:
        patched.setattr(drain_module, "_write", write_and_want)
        drain([partition_of(ours.token)])
    thread.join()

    # then the drain's batch is stored nevertheless.
    assert not failures
    assert len(tries) == 2
    assert bodies().count("stored once") == 1
    assert Chat.objects.get().messages_count == 301


def _times() -> dict[str, Any]:
    from django.utils import timezone

    return {"created_at": timezone.now(), "last_request_time": timezone.now()}
