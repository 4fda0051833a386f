"""`manage.py recount` verifies all counts and repairs wrong ones."""

from __future__ import annotations

import threading
from io import StringIO
from itertools import count, takewhile

import pytest
from django.core.management import call_command
from django.db import connection

from applications.models import Application
from chats.models import Chat
from chatsystem.writelog import counts
from messages_app.models import Message
from tests.support.harness import Tenant, drain_all, in_threads


def recount(*options: str) -> str:
    output = StringIO()
    call_command("recount", *options, stdout=output)
    return output.getvalue()


@pytest.fixture
def stored(ours: Tenant, theirs: Tenant, drained: object) -> Tenant:
    """Two chats with three and two messages. Another tenant has one chat with one message."""
    ours.chat()
    ours.chat()
    ours.batch(1, ["a message"] * 3)
    ours.batch(2, ["a message"] * 2)
    drained()
    return ours


def test_right_counts_are_reported_as_no_drift(stored: Tenant) -> None:
    last = recount().splitlines()[-1]

    assert last.startswith("5 parents checked in ")
    assert last.endswith(" s: no drift. Next: nothing to do.")


def test_a_dry_run_prints_the_drift_and_changes_nothing(stored: Tenant) -> None:
    chat = Chat.objects.get(application__token=stored.token, number=1)
    Chat.objects.filter(pk=chat.pk).update(messages_count=8)

    output = recount("--dry-run")

    assert f"chat.messages_count of id {chat.pk} (token {stored.token[:6]}…) is 8, counted 3" in output
    assert stored.token[:7] not in output
    assert output.splitlines()[-1].endswith("1 drifted. Next: `manage.py recount` repairs them.")
    assert Chat.objects.get(pk=chat.pk).messages_count == 8


def test_drift_is_repaired_in_every_parent(stored: Tenant) -> None:
    Chat.objects.update(messages_count=0)
    Application.objects.update(chats_count=77)

    output = recount()

    assert output.splitlines()[-1].split(": ")[1].startswith("5 drifted and repaired")
    assert sorted(Chat.objects.values_list("messages_count", flat=True)) == [1, 2, 3]
    assert sorted(Application.objects.values_list("chats_count", flat=True)) == [1, 2]
    assert "no drift" in recount()


def test_a_chat_without_messages_counts_none(stored: Tenant) -> None:
    stored.chat()
    drain_all()
    Chat.objects.filter(number=3).update(messages_count=1)

    recount()

    assert Chat.objects.get(number=3).messages_count == 0


def test_more_parents_than_one_query_covers_are_all_checked(stored: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counts, "SLICE", 2)
    Chat.objects.update(messages_count=9)

    assert "5 parents checked" in recount()
    assert sorted(Chat.objects.values_list("messages_count", flat=True)) == [1, 2, 3]


def test_the_reconcile_verifies_every_count_that_a_drain_has_moved(
    stored: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given more wrong counts than one query covers, of chats and of applications,
    monkeypatch.setattr(counts, "SLICE", 1)
    Chat.objects.update(messages_count=9)
    Application.objects.update(chats_count=9)

    # when beat reconciles, then all of them are repaired, and none is checked a second time.
    assert len(counts.reconcile_due()) == 5
    assert sorted(Chat.objects.values_list("messages_count", flat=True)) == [1, 2, 3]
    assert sorted(Application.objects.values_list("chats_count", flat=True)) == [1, 2]
    Chat.objects.update(messages_count=9)
    assert counts.reconcile_due() == []


@pytest.mark.parametrize("options", [["--dry-run"], []])
def test_while_writes_and_drains_go_on_no_drift_is_seen_and_none_is_made(ours: Tenant, options: list[str]) -> None:
    chats = [ours.chat()["number"] for _ in range(4)]
    drain_all()
    stop = threading.Event()
    outputs: list[str] = []

    def work(client: int) -> None:
        if client == 0:
            try:
                outputs.extend(recount(*options) for _ in range(25))
            finally:
                stop.set()
        for _ in takewhile(lambda turn: turn < 2 or not stop.is_set(), count()):
            if client == 1:
                drain_all()
            else:
                ours.batch(chats[client % 4], ["a message"] * 20)

    in_threads(work, range(6))

    assert all("no drift" in output for output in outputs)
    drain_all()
    assert Message.objects.count() >= 4 * 2 * 20
    for chat in Chat.objects.all():
        assert chat.messages_count == Message.objects.filter(chat=chat).count()
    connection.close()
