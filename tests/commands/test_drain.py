"""`manage.py drain` stores what the log holds."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from io import StringIO
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.core.management import CommandError, call_command
from django.db import connection

from applications.models import Application
from chatsystem.writelog import drain as drain_module
from chatsystem.writelog import stream
from chatsystem.writelog.keys import partition_of
from chatsystem.writelog.models import Partition
from chatsystem.writelog.partitions import locked
from messages_app.models import Message
from tests.support.harness import RealRedis, Tenant


def drain() -> str:
    output = StringIO()
    call_command("drain", stdout=output)
    return output.getvalue()


def test_everything_is_stored_and_reported(ours: Tenant, theirs: Tenant) -> None:
    ours.chat()
    ours.batch(1, ["a message"] * 997)

    output = drain()

    # 997 messages and a chat, their application and the three writes of the other tenant.
    assert ": 1,002 events in " in output
    assert "The log is empty. Next: `manage.py recount --dry-run`" in output
    assert Message.objects.count() == 998
    assert not stream.lengths()


def test_an_empty_log_is_nothing_to_do(api: object) -> None:
    assert "Drained 0 partitions: 0 events" in drain()


def test_dead_events_are_reported_with_where_to_look(ours: Tenant, drained: object) -> None:
    drained()
    Application.objects.all().delete()
    ours.chat()

    output = drain()

    assert "1 dead events: the database refused them. Next: /admin/writelog/deadevent/" in output


def test_it_waits_for_a_partition_that_somebody_else_drains(ours: Tenant) -> None:
    released = threading.Event()

    def hold() -> None:
        with locked(partition_of(ours.token)):
            held.set()
            released.wait(60)
        connection.close()

    held = threading.Event()
    holder = threading.Thread(target=hold)
    holder.start()
    assert held.wait(60)
    threading.Timer(0.5, released.set).start()

    output = drain()

    holder.join()
    assert "1 events" in output
    assert Partition.objects.get(pk=partition_of(ours.token)).drained_through


def test_it_stores_what_was_there_and_ends_under_constant_writes(ours: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given a log of three batches, and a client that posts another batch for each one that is stored,
    monkeypatch.setattr(drain_module, "BATCH", 20)
    ours.chat()
    drain()
    ours.batch(1, ["present"] * 60)
    remove = stream.remove
    later = iter(range(30))

    def arrive_then_remove(*args: Any) -> stream.Left:
        for _ in islice(later, 1):
            ours.batch(1, ["late"] * 20)
        return remove(*args)

    # when it drains, then it stores what was there and reports the rest.
    with monkeypatch.context() as patched:
        patched.setattr(stream, "remove", arrive_then_remove)
        output = drain()
    assert "Drained 1 partitions: 60 events" in output
    assert "60 events have arrived meanwhile. Next: the workers store them, or run this again." in output
    assert set(Message.objects.values_list("body", flat=True)) == {"present"}


def test_each_message_is_stored_once_while_clients_write(ours: Tenant) -> None:
    ours.chat()
    stop = threading.Event()

    def post() -> None:
        while not stop.is_set():
            ours.batch(1, ["a message"] * 50)
        connection.close()

    poster = threading.Thread(target=post)
    poster.start()
    try:
        for _ in range(5):
            drain()
    finally:
        stop.set()
        poster.join()
    drain()
    assert sorted(Message.objects.values_list("number", flat=True)) == list(range(1, Message.objects.count() + 1))


def test_without_redis_it_says_so(ours: Tenant, redis_server: RealRedis) -> None:
    redis_server.kill()
    try:
        with pytest.raises(CommandError, match="The state Redis cannot be used now"):
            drain()
    finally:
        redis_server.start()
    drain()
    assert Application.objects.count() == 1


@pytest.mark.parametrize("command", ["drain", "recount"])
def test_without_the_database_it_ends_with_a_sentence_and_no_traceback(
    ours: Tenant, tmp_path: Path, command: str
) -> None:
    environment = {**os.environ, "DATABASE_URL": f"sqlite:///{tmp_path}/nowhere/chat.sqlite3"}
    run = subprocess.run(
        [sys.executable, "manage.py", command],
        cwd=settings.BASE_DIR,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert run.returncode == 1
    assert run.stderr.startswith("CommandError: The database cannot be used now")
    assert "Traceback" not in run.stderr
    assert sum(stream.lengths().values()) == 1
