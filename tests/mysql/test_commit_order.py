"""Primary keys are assigned in one order and committed in another. Walking by primary key must skip no row."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from pytest_django import Settings
from rest_framework.test import APIClient

from chatsystem.writelog import drain as drain_module
from chatsystem.writelog.counts import all_counts, reconcile_due
from chatsystem.writelog.drain import drain
from chatsystem.writelog.keys import partition_of
from messages_app.models import Message
from search import outbox, reindex
from search.backends import get_backend
from search.models import OutboxEntry
from search.reindex import differences
from tests.support.harness import Tenant, drain_all


@pytest.fixture(autouse=True)
def _index(settings: Settings, tmp_path: Path) -> None:
    settings.SEARCH_INDEX_PATH = tmp_path / "search.sqlite3"


@pytest.fixture
def tenants(api: APIClient) -> tuple[Tenant, Tenant]:
    """Two tenants in different partitions, each with a stored and indexed chat."""
    slow = Tenant.new(api, "slow")
    quick = slow
    while partition_of(quick.token) == partition_of(slow.token):
        quick = Tenant.new(api, "quick")
    for tenant in (slow, quick):
        tenant.chat()
    drain_all()
    outbox.index()
    return slow, quick


@contextmanager
def uncommitted(tenant: Tenant, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Runs a drain of the tenant's partition that has assigned primary keys and commits when the block ends."""
    written, commit = threading.Event(), threading.Event()
    store = drain_module.store
    thread = threading.Thread(target=lambda: (drain([partition_of(tenant.token)]), connection.close()))

    def store_and_wait(events: Any) -> Any:
        dead = store(events)
        if threading.current_thread() is thread:
            written.set()
            commit.wait(60)
        return dead

    with monkeypatch.context() as patched:
        patched.setattr(drain_module, "store", store_and_wait)
        thread.start()
        assert written.wait(60)
        try:
            yield
        finally:
            commit.set()
            thread.join()


def test_an_outbox_entry_that_is_committed_after_its_successor_is_indexed(
    tenants: tuple[Tenant, Tenant], monkeypatch: pytest.MonkeyPatch
) -> None:
    slow, quick = tenants
    slow.message(1, "first")
    quick.message(1, "second")

    # When the later entry is committed, indexed and removed before the earlier one is committed,
    with uncommitted(slow, monkeypatch):
        drain([partition_of(quick.token)])
        outbox.index()
        assert not OutboxEntry.objects.exists()

    # then the earlier one is indexed nevertheless.
    outbox.index()
    assert Message.objects.get(body="first").pk < Message.objects.get(body="second").pk
    assert list(differences(get_backend())) == []
    assert get_backend().count(2**62) == 2


def test_a_reindex_misses_no_message_that_is_committed_behind_it(
    tenants: tuple[Tenant, Tenant], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given an uncommitted message whose primary key is lower than that of the newest one,
    slow, quick = tenants
    slow.message(1, "first")
    quick.message(1, "second")

    # when it is committed after the reindex has passed its primary key,
    with uncommitted(slow, monkeypatch):
        drain([partition_of(quick.token)])
        assert reindex.reindex(get_backend()).messages == 1

    # then its outbox entry gets it indexed.
    outbox.index()
    assert list(differences(get_backend())) == []
    assert get_backend().count(2**62) == 2


def test_a_recount_sees_no_drift_in_rows_that_are_being_committed(
    tenants: tuple[Tenant, Tenant], monkeypatch: pytest.MonkeyPatch
) -> None:
    slow, quick = tenants
    slow.chat()
    slow.message(1, "first")
    quick.chat()

    with uncommitted(slow, monkeypatch):
        drain([partition_of(quick.token)])
        assert _drifts() == 0
    assert _drifts() == 0
    assert reconcile_due() == []


def _drifts() -> int:
    return sum(len(count.drifts(parents)) for count in all_counts() for parents in count.slices())
