"""Cached pages are never older than an acknowledged write, and never another application's."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.core.cache import cache
from django.db import connection
from django.test.utils import CaptureQueriesContext

from chatsystem.writelog import ownership
from chatsystem.writelog.dead_events import discard
from chatsystem.writelog.models import DeadEvent
from tests.support.harness import RealRedis, Tenant, drain_all, dump, in_threads, put_back

PAGE = "/chats/1/messages"


@contextmanager
def answered_from_cache() -> Iterator[None]:
    """Asserts that every page inside comes from the cache, without a query."""
    with CaptureQueriesContext(connection) as queries:
        yield
    assert not len(queries)


def bodies(tenant: Tenant, **params: object) -> list[str]:
    return [message["body"] for message in tenant.get(PAGE, **params)["results"]]


@pytest.fixture
def chatting(ours: Tenant, drained: Callable) -> Tenant:
    """A tenant with two messages in its chat, whose first page has been requested."""
    ours.chat()
    ours.batch(1, ["one", "two"])
    drained()
    assert bodies(ours) == ["one", "two"]
    return ours


def test_a_page_that_nothing_has_changed_is_answered_without_the_database(chatting: Tenant) -> None:
    with answered_from_cache():
        assert bodies(chatting) == ["one", "two"]


def test_a_kept_page_is_forgotten_after_half_a_minute(chatting: Tenant) -> None:
    [page] = cache.keys("answer:*")

    assert 0 < cache.ttl(page) <= 30


def test_a_kept_page_has_the_headers_of_a_new_one_and_can_be_revalidated(chatting: Tenant) -> None:
    path = f"{chatting.path}{PAGE}"
    asked = {"X-Request-ID": "the-same"}
    new = chatting.api.get(path, {"limit": 1}, headers=asked)

    with answered_from_cache():
        again = chatting.api.get(path, {"limit": 1}, headers=asked)
        revalidated = chatting.api.get(path, {"limit": 1}, headers={"If-None-Match": new.headers["ETag"]})

    assert again.headers == new.headers
    assert again.content == new.content
    assert revalidated.status_code == 304


def test_each_url_has_a_page_of_its_own(chatting: Tenant, theirs: Tenant) -> None:
    drain_all()
    for _ in range(2):
        assert bodies(chatting, order="desc") == ["two", "one"]
        assert bodies(chatting, limit=1) == ["one"]
        assert bodies(theirs) == ["theirs"]
        with_links = chatting.api.get(f"{chatting.path}{PAGE}", {"limit": 1}, headers={"Host": "127.0.0.1:99"}).json()
        assert with_links["next"].startswith("http://127.0.0.1:99/")


def add(tenant: Tenant) -> None:
    tenant.message(1, "three")


def add_many(tenant: Tenant) -> None:
    tenant.batch(1, ["three"])


def change(tenant: Tenant) -> None:
    tenant.api.patch(f"{tenant.path}{PAGE}/2", {"body": "three"}, format="json")


@pytest.mark.parametrize("write", [add, add_many, change])
def test_an_acknowledged_write_is_on_a_page_that_was_kept(
    chatting: Tenant, drained: Callable, write: Callable[[Tenant], None]
) -> None:
    write(chatting)

    for _ in range(2):
        assert "three" in bodies(chatting)
    drained()
    assert "three" in bodies(chatting)


def test_a_discarded_message_leaves_a_page_that_was_kept(chatting: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given a cached page with a message that the database has refused,
    with monkeypatch.context() as patch:
        patch.setattr("messages_app.persist.store_children", _refuse)
        chatting.message(1, "refused")
        drain_all()
    assert bodies(chatting) == ["one", "two", "refused"]

    # when it is discarded, then it is gone from the page.
    discard(DeadEvent.objects.get(), "somebody", "a reason")
    assert bodies(chatting) == ["one", "two"]


def _refuse(*args: Any) -> None:
    raise ValueError("refused")


def test_a_page_kept_before_a_redis_was_restored_does_not_hide_what_was_stored_since(
    chatting: Tenant, state: Any, redis_server: RealRedis
) -> None:
    # Given a page cached at two messages, a stored third message, and a Redis restored to the state at two.
    before = dump(state)
    chatting.message(1, "three")
    drain_all()
    for name in state.keys("{*"):
        state.delete(name)
    put_back(state, before)
    redis_server.restart()

    # when the page is read, before and after this Redis is compared with the database, then it shows all three.
    assert bodies(chatting) == ["one", "two", "three"]
    ownership.set_owner()
    assert bodies(chatting) == ["one", "two", "three"]


def test_pages_are_answered_without_the_cache(chatting: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*args: object) -> None:
        raise ConnectionError

    for name in ("get", "set"):
        monkeypatch.setattr(cache, name, away)

    for _ in range(2):
        assert bodies(chatting) == ["one", "two"]


def test_a_large_page_is_not_kept(chatting: Tenant) -> None:
    chatting.batch(1, ["x" * 16_000] * 10)
    drain_all()

    for _ in range(2):
        with CaptureQueriesContext(connection) as queries:
            assert len(bodies(chatting)) == 12
        assert len(queries) == 2


def test_no_page_is_older_than_an_acknowledged_write_while_clients_write_and_drains_drain(chatting: Tenant) -> None:
    """Four clients add, one changes, one drains. Each reads the page of its write at once."""
    done = threading.Event()

    def client(role: int) -> None:
        if role == 5:
            while not done.is_set():
                drain_all()
            return
        for turn in range(40):
            text = f"{role} {turn}"
            if role == 4:
                chatting.api.patch(f"{chatting.path}{PAGE}/1", {"body": text}, format="json")
                assert bodies(chatting, limit=1) == [text]
            else:
                chatting.message(1, text)
                assert text in bodies(chatting, order="desc")
        if role == 0:
            done.set()

    in_threads(client, range(6))
