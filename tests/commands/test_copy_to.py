"""`manage.py copy_to` copies everything unchanged, compares it, and overwrites nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.contrib.auth.models import Permission, User
from django.core.management import CommandError, call_command
from django.db import connections
from pytest_django import DjangoDbBlocker

from applications.models import Application
from chatsystem import file_lock
from chatsystem.backoffice import database_copy
from chatsystem.writelog import stats
from chatsystem.writelog.keys import partition_of
from chatsystem.writelog.models import DeadEvent, Partition
from chatsystem.writelog.redis_client import client
from messages_app.models import Message
from search.models import OutboxEntry
from tests.support import environment
from tests.support.harness import Tenant, drain_all, is_locked


@pytest.fixture
def target(api: object, tmp_path: Path, django_db_blocker: DjangoDbBlocker) -> Iterator[str]:
    """The URL of an empty database, on the same kind of server as the tests."""
    # Django lets a test use only the databases that it knew at the start.
    with django_db_blocker.unblock():
        yield (
            environment.server.new_database("copied") if environment.server else f"sqlite:///{tmp_path}/copied.sqlite3"
        )
    if database_copy.TARGET in connections.settings:
        connections[database_copy.TARGET].close()
        del connections[database_copy.TARGET]
        del connections.settings[database_copy.TARGET]


@pytest.fixture
def filled(ours: Tenant, theirs: Tenant, all_permissions: None) -> Tenant:
    """Rows in every table that the product fills, more messages than one chunk, and gaps between primary keys."""
    ours.chat("ours, with an é and a 🐘")
    ours.batch(1, [f"message {i} \n\\" for i in range(1_000)])
    ours.batch(1, ["x" * 16_000, "  blanks  "])
    drain_all()
    OutboxEntry.objects.order_by("pk").first().delete()
    DeadEvent.objects.create(
        partition_id=63, arrival=1_700_000_000_000_001, verb="update", path=f"{ours.token}/1/9", text="dead", error="x"
    )
    user = User.objects.create_user("viewer")
    user.user_permissions.set(Permission.objects.filter(codename__startswith="view_"))
    return ours


def copy_to(url: str, *options: str) -> str:
    output = StringIO()
    call_command("copy_to", url, *options, stdout=output)
    return output.getvalue()


def rows(alias: str) -> dict[str, list[tuple]]:
    return {
        model._meta.db_table: list(model._base_manager.using(alias).order_by("pk").values_list())
        for model in database_copy.models()
    }


def test_everything_arrives_as_it_was(filled: Tenant, target: str) -> None:
    output = copy_to(target)

    assert rows("target") == rows("default")
    assert "each compared. Next: start the product with that DATABASE_URL" in output
    assert DeadEvent.objects.using("target").get().died_at == DeadEvent.objects.get().died_at
    assert Partition.objects.using("target").filter(drained_through__gt=0).exists()
    assert User.objects.using("target").get().user_permissions.count() > 5


def test_new_rows_get_primary_keys_above_those_that_were_copied(filled: Tenant, target: str) -> None:
    copy_to(target)

    last = Message.objects.order_by("pk").last()
    new = Message(chat_id=last.chat_id, number=9_999, body="x", created_at=last.created_at)
    new.last_request_time = last.created_at
    new.save(using="target")
    assert new.pk > last.pk


def test_a_target_that_holds_something_is_refused_and_not_changed(filled: Tenant, target: str) -> None:
    copy_to(target)
    before = rows("target")
    filled.chat("one more")
    drain_all()

    with pytest.raises(CommandError, match="The target is not empty: there are rows in"):
        copy_to(target)
    assert rows("target") == before


@pytest.mark.parametrize("tables", [0, 3, 8])
def test_a_copy_that_was_interrupted_goes_on(
    filled: Tenant, target: str, monkeypatch: pytest.MonkeyPatch, tables: int
) -> None:
    # Given a copy that was interrupted in the middle of a table,
    with monkeypatch.context() as patched:
        patched.setattr(database_copy, "copy", _interrupted(database_copy.copy, tables))
        with pytest.raises(KeyboardInterrupt):
            copy_to(target)

    # when it is resumed, then it is as complete as any other.
    copy_to(target, "--resume")
    assert rows("target") == rows("default")


def _interrupted(copy: Callable, tables: int) -> Callable:
    copied: list[type] = []

    def copy_or_stop(model: Any, progress: database_copy.Progress) -> None:
        def stop(done: int) -> None:
            if len(copied) == tables:
                raise KeyboardInterrupt

        copy(model, stop)
        if model._base_manager.exists():
            copied.append(model)

    return copy_or_stop


@pytest.mark.parametrize(
    "differ",
    [
        lambda: Message.objects.using("target").filter(number=2).update(body="MESSAGE 1 \n\\"),
        lambda: Message.objects.using("target").filter(number=1_000).delete(),
        lambda: Partition.objects.using("target").filter(drained_through__gt=0).update(drained_through=1),
        lambda: OutboxEntry.objects.using("target").create(messages=[]),
    ],
    ids=["a text", "a row less", "a mark", "a row more"],
)
def test_any_difference_is_found(
    filled: Tenant, target: str, monkeypatch: pytest.MonkeyPatch, differ: Callable
) -> None:
    compare = database_copy.compare
    done: list[int] = []

    def differ_and_compare(*args: Any) -> None:
        if not done:
            done.append(differ())
        compare(*args)

    monkeypatch.setattr(database_copy, "compare", differ_and_compare)
    with pytest.raises(CommandError, match=r"differs between the databases|rows in the target that are not"):
        copy_to(target)


def test_it_does_not_run_beside_the_product(filled: Tenant, target: str) -> None:
    # Given running workers, it is refused;
    stats.beat_heart()
    with pytest.raises(CommandError, match="Workers are running"):
        copy_to(target)
    client(0).flushall()

    # given a running `make run` on this DATA_DIR, it is refused too.
    descriptor = file_lock.take(settings.DATA_DIR.run / "lock")
    assert descriptor is not None
    with open(descriptor, "rb"), pytest.raises(CommandError, match="The product is running on DATA_DIR"):
        copy_to(target)


def test_nobody_drains_any_partition_before_all_is_copied_and_compared(
    filled: Tenant, target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    for name in ("copy", "compare"):
        step = getattr(database_copy, name)

        def look_then_go_on(model: Any, progress: database_copy.Progress, step: Callable = step) -> None:
            if model is Message:
                seen.append((is_locked(0), is_locked(partition_of(filled.token)), is_locked(63)))
            step(model, progress)

        monkeypatch.setattr(database_copy, name, look_then_go_on)

    copy_to(target)

    assert seen == [(True, True, True)] * 2
    assert not is_locked(0)


def test_what_the_log_still_holds_is_stored_in_the_new_database_once(filled: Tenant, target: str) -> None:
    # Given acknowledged writes that are not drained, and stored ones that a drain could not remove,
    acknowledged = filled.message(1, "undrained")

    # when everything is copied, and the log is drained into the copy,
    copy_to(target)
    here, there = connections.settings["default"], connections.settings["target"]
    try:
        connections["default"].close()
        connections["default"].settings_dict = there
        drain_all()
        copied = list(Message.objects.filter(body="undrained").values_list("number", flat=True))
        name = Application.objects.get(token=filled.token).name
    finally:
        connections["default"].close()
        connections["default"].settings_dict = here

    # then it is stored there under the acknowledged number, and the old database does not have it.
    assert copied == [acknowledged["number"]]
    assert name == "ours"
    assert not Message.objects.filter(body="undrained").exists()
