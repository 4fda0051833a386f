"""The rollback guard: an older database is refused loudly and never gets other messages under the old numbers."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from io import StringIO

import pytest
from django.core.checks import run_checks
from django.core.management import CommandError, call_command

from applications.models import Application
from chats.models import Chat
from chatsystem.writelog import exceptions, keys, rollback_guard, stream, tasks
from chatsystem.writelog.drain import drain
from chatsystem.writelog.keys import PARTITIONS, partition_of
from chatsystem.writelog.models import DeadEvent, Partition
from chatsystem.writelog.redis_client import client
from messages_app.models import Message
from tests.support.harness import Tenant, drain_all

Restore = Callable[[], None]


@pytest.fixture
def theirs(ours: Tenant, theirs: Tenant) -> Tenant:
    """In another partition: applications of one partition are halted together."""
    while partition_of(theirs.token) == partition_of(ours.token):
        theirs = Tenant.new(theirs.api, "theirs")
        theirs.chat("theirs")
        theirs.message(1, "theirs")
    return theirs


@pytest.fixture
def dump(ours: Tenant, theirs: Tenant) -> Restore:
    """A dump of the database in which `ours` has a chat with two messages. Call it to restore the dump."""
    ours.chat()
    ours.batch(1, ["one", "two"])
    drain_all()
    models = (Application, Chat, Message, Partition)
    rows = {model: list(model._default_manager.all()) for model in models}

    def restore() -> None:
        for model in (Message, Chat, Application):
            model._default_manager.all().delete()
        for model, kept in rows.items():
            if model is Partition:
                Partition.objects.bulk_update(kept, ["drained_through"])
            else:
                model._default_manager.bulk_create(kept)

    return restore


@pytest.fixture
def lost(ours: Tenant, theirs: Tenant, dump: Restore) -> None:
    """After the dump `ours` stored two messages and a chat with one; then it was restored. `theirs` stored nothing."""
    ours.batch(1, ["three", "four"])
    ours.chat("lost")
    ours.message(2)
    drain_all()
    dump()


def test_writes_and_reads_are_refused_from_the_first_drain_on(ours: Tenant, lost: None) -> None:
    # Given an older database, and a write that was accepted before anyone noticed,
    ours.message(1, "five")

    # when it is drained,
    with pytest.raises(exceptions.DatabaseBehind):
        drain([partition_of(ours.token)])

    # then nothing was stored,
    assert Message.objects.filter(chat__application__token=ours.token).count() == 2
    assert stream.lengths() == {partition_of(ours.token): 1}
    # and all writes and reads are refused, of lost and of other entities.
    chat = f"{ours.path}/chats/1"
    for path in (
        ours.path,
        chat,
        f"{chat}/messages/1",
        f"{chat}/messages/3",
        f"{chat}/messages",
        f"{ours.path}/chats/2",
    ):
        assert ours.api.get(path).status_code == 503, path
    for path in (f"{chat}/messages", f"{ours.path}/chats/2/messages"):
        refused = ours.api.post(path, {"body": "six"}, format="json")
        assert (refused.status_code, refused["Retry-After"]) == (503, "1"), path
    assert ours.api.patch(chat, {"title": "other"}, format="json").status_code == 503


def test_the_sweep_detects_an_older_database_and_readiness_and_the_check_report_it(
    ours: Tenant, theirs: Tenant, lost: None
) -> None:
    tasks.sweep()

    ready = ours.api.get("/health/ready").json()
    assert ready["status"] == "degraded"
    assert ready["dependencies"]["database"] == "degraded: older than it was: 1 partitions are halted"
    found = run_checks(databases=["default"])
    assert [error.id for error in found if not error.is_silenced()] == ["chatsystem.E005"]
    # An application that has lost nothing goes on.
    assert theirs.message(1)["number"] == 2


def test_seeding_refuses_an_older_database_too(ours: Tenant, lost: None, state: object) -> None:
    # Given a Redis that has to seed before its first number,
    client(0).delete(keys.Keys(partition_of(ours.token)).clock)

    # when a message is posted, then it is refused.
    assert ours.api.post(f"{ours.path}/chats/1/messages", {"body": "five"}, format="json").status_code == 503
    assert stream.lengths() == {}


def test_a_database_that_is_brought_forward_resumes_by_itself(ours: Tenant, lost: None, dump: Restore) -> None:
    # Given a halted partition, with a write in its log,
    ours.message(1, "five")
    restored_to = Partition.objects.get(pk=partition_of(ours.token)).drained_through
    tasks.sweep()
    # when the binary log has brought back what was lost,
    chat = Chat.objects.get(application__token=ours.token)
    for number, body in ((3, "three"), (4, "four")):
        like = Message.objects.filter(chat=chat).latest("number")
        like.pk, like.number, like.body = None, number, body
        like.save()
    Partition.objects.filter(pk=partition_of(ours.token)).update(
        drained_through=rollback_guard.stored_through(partition_of(ours.token))
    )
    assert Partition.objects.get(pk=partition_of(ours.token)).drained_through > restored_to
    tasks.sweep()

    # then the write is stored under the number that was acknowledged, and the next follows.
    drain_all()
    assert Message.objects.get(chat=chat, number=5).body == "five"
    assert ours.message(1)["number"] == 6
    assert "database" not in str(run_checks(databases=["default"]))


def test_accepting_the_loss_needs_a_yes(ours: Tenant, lost: None) -> None:
    output = StringIO()
    with pytest.raises(CommandError, match="--yes"):
        call_command("accept_database", stdout=output)

    assert f"partition {partition_of(ours.token)}: had stored all until " in output.getvalue()
    tasks.sweep()
    assert ours.api.get(ours.path).status_code == 503


def test_once_accepted_writes_go_on_and_no_number_is_given_twice(ours: Tenant, theirs: Tenant, lost: None) -> None:
    # Given an older database, and a write that was accepted before anyone noticed,
    ours.message(1, "five")
    with suppress(exceptions.DatabaseBehind):
        drain_all()

    # when the loss is accepted,
    output = StringIO()
    call_command("accept_database", "--yes", stdout=output)
    assert "Accepted: 1 partitions resume" in output.getvalue()

    # then that write is stored, the next number follows, and the lost numbers are visibly missing,
    assert ours.message(1, "six")["number"] == 6
    drain_all()
    assert [message["number"] for message in ours.get("/chats/1/messages")["results"]] == [1, 2, 5, 6]
    assert ours.api.get(f"{ours.path}/chats/1/messages/3").status_code == 404
    # a lost chat accepts no messages, its number is not given again,
    assert ours.api.post(f"{ours.path}/chats/2/messages", {"body": "void"}, format="json").status_code == 404
    assert ours.chat()["number"] == 3
    drain_all()
    assert not DeadEvent.objects.exists()
    # and a second time there is nothing to accept.
    tasks.sweep()
    call_command("accept_database", stdout=output)
    assert "nothing to accept" in output.getvalue()


def test_the_loss_is_accepted_in_each_partition_that_is_behind(ours: Tenant, theirs: Tenant) -> None:
    drain_all()
    partitions = sorted(partition_of(tenant.token) for tenant in (ours, theirs))
    for partition in partitions:
        client(0).incr(keys.Keys(partition).stored)
    assert rollback_guard.partitions_behind(range(PARTITIONS)) == partitions

    output = StringIO()
    call_command("accept_database", "--yes", stdout=output)

    assert "Accepted: 2 partitions resume" in output.getvalue()
    assert [line.split(":")[0] for line in output.getvalue().splitlines()[:2]] == [f"partition {p}" for p in partitions]
    assert rollback_guard.partitions_behind(range(PARTITIONS)) == []
    assert (ours.chat()["number"], theirs.chat()["number"]) == (1, 2)


def test_a_database_at_least_as_new_as_redis_is_never_halted(ours: Tenant, theirs: Tenant, dump: Restore) -> None:
    # Redis may know less than the database: it is told after the commit, and a restored Redis is older.
    client(0).delete(keys.Keys(partition_of(ours.token)).stored)
    tasks.sweep()

    assert rollback_guard.halted(range(PARTITIONS)) == []
    assert ours.message(1)["number"] == 3
    drain_all()
    assert rollback_guard.halted(range(PARTITIONS)) == []
