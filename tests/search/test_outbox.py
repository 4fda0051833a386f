"""From the drain to the index: nothing is forgotten before the index has it."""

from __future__ import annotations

import logging
from datetime import timedelta

import pytest
from django.core.cache import cache
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from kombu.exceptions import OperationalError
from pytest_django import Settings

from messages_app.models import Message
from messages_app.signals import messages_stored
from search import outbox, tasks
from search.backends.base import SearchBackend
from search.comparison import differences
from search.models import OutboxEntry
from search.reindexing import reindex
from tests.bench import Tenant, in_threads
from tests.search.backend_contract import THEIRS
from tests.search.conftest import ON_BOTH, Away, Stored, lose_index

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("state"), ON_BOTH]


@pytest.fixture
def hints(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The hints that were sent."""
    sent: list[str] = []
    monkeypatch.setattr(tasks.index_outbox, "apply_async", lambda **when: sent.append("hint"))
    return sent


def tell(*messages: Message) -> None:
    """Tells search as the drain does, inside the transaction that stored the messages."""
    numbers: dict[int, list[int]] = {}
    for message in messages:
        numbers.setdefault(message.chat_id, []).append(message.number)
    with transaction.atomic():
        messages_stored.send(sender=Message, numbers=numbers)


def test_what_the_drain_stores_is_found(
    ours: Tenant, theirs: Tenant, drained: object, index: SearchBackend, hints: list[str]
) -> None:
    ours.chat()
    ours.batch(1, ["one", "two", "three"])
    drained()
    assert hints
    assert OutboxEntry.objects.exists()
    assert outbox.index() is False
    assert not OutboxEntry.objects.exists()
    assert index.count(10**6) == 4
    assert list(differences(index)) == []
    ours.api.patch(f"{ours.path}/chats/1/messages/2", {"body": "second"}, format="json")
    drained()
    assert [str(d.indexed.body) for d in differences(index)] == ["two"]
    outbox.index()
    assert list(differences(index)) == []


def test_an_entry_and_its_messages_are_stored_together_or_not_at_all(stored: Stored, hints: list[str]) -> None:
    def fail_half_way() -> None:
        with transaction.atomic():
            tell(stored.message("hello"))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_half_way()
    assert not OutboxEntry.objects.exists()
    assert not Message.objects.exists()
    assert hints == []


def test_the_hint_is_sent_after_the_commit(stored: Stored, hints: list[str]) -> None:
    with transaction.atomic():
        tell(stored.message("hello"))
        assert hints == []
    assert hints == ["hint"]


def test_many_commits_ask_for_one_indexer_until_it_begins(stored: Stored, hints: list[str]) -> None:
    # Given that several drains commit one after the other, then one hint is sent for all of them,
    for _ in range(3):
        tell(stored.message("hello"))
    assert hints == ["hint"]
    # and once the indexer begins, the next commit hints again.
    tasks.index_outbox()
    assert not OutboxEntry.objects.exists()
    tell(stored.message("hello"))
    assert hints == ["hint", "hint"]


def test_a_hint_that_cannot_be_sent_harms_nothing(stored: Stored, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**when: object) -> None:
        raise OperationalError("no broker")

    monkeypatch.setattr(tasks.index_outbox, "apply_async", refuse)
    tell(stored.message("hello"))
    tasks.sweep_outbox()
    assert not OutboxEntry.objects.exists()


def test_an_index_that_is_away_leaves_the_entries_and_is_not_pestered(
    stored: Stored, hints: list[str], away: Away, caplog: pytest.LogCaptureFixture
) -> None:
    tell(stored.message("hello"))
    with caplog.at_level(logging.INFO):
        for _ in range(20):
            tasks.index_outbox()
            tasks.sweep_outbox()
    assert OutboxEntry.objects.count() == 1
    assert away.asked == 1
    assert len(caplog.records) == 1
    assert hints == ["hint"], "only the one of the commit"


def test_the_outbox_drains_when_the_index_is_back(stored: Stored, hints: list[str], index: SearchBackend) -> None:
    message = stored.message("hello")
    tell(message)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(outbox, "get_backend", Away)
        outbox.index()
    cache.delete(outbox.LEASE)  # as time does
    tasks.sweep_outbox()
    assert not OutboxEntry.objects.exists()
    assert list(differences(index)) == []


def test_the_lag_is_what_waits_and_for_how_long(stored: Stored, hints: list[str]) -> None:
    assert outbox.lag() == outbox.Lag(0, 0.0)
    tell(stored.message("old"))
    tell(stored.message("new"))
    OutboxEntry.objects.filter(pk=OutboxEntry.objects.order_by("pk")[0].pk).update(
        created_at=timezone.now() - timedelta(minutes=5)
    )
    lag = outbox.lag()
    assert lag.entries == 2
    assert 300 <= lag.seconds < 310
    outbox.index()
    assert outbox.lag() == outbox.Lag(0, 0.0)


def test_an_entry_outlives_an_indexer_that_dies(stored: Stored, hints: list[str], index: SearchBackend) -> None:
    # An index that is new would be filled from the database, without the outbox.
    reindex(index)
    tell(stored.message("hello"))

    def die(documents: object) -> None:
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(index, "index", die)
        with pytest.raises(KeyboardInterrupt):
            outbox.index()
    assert OutboxEntry.objects.count() == 1
    assert outbox.index() is False
    assert list(differences(index)) == []


def test_an_index_that_was_lost_is_filled_with_the_next_message(
    stored: Stored, hints: list[str], index: SearchBackend, settings: Settings
) -> None:
    tell(stored.message("old"))
    outbox.index()
    lose_index(settings)
    tell(stored.message("new"))
    outbox.index()
    assert list(differences(index)) == []
    assert index.count(10**6) == 2


def test_an_index_is_filled_once(
    stored: Stored, hints: list[str], index: SearchBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    tell(stored.message("first"))
    outbox.index()
    monkeypatch.setattr(outbox, "reindex", lambda *arguments: pytest.fail("filled again"))
    tell(stored.message("second"))
    outbox.index()
    assert list(differences(index)) == []


def test_an_empty_outbox_costs_one_query(state: object) -> None:
    with CaptureQueriesContext(connection) as queries:
        tasks.sweep_outbox()
    assert len(queries) == 1


def test_a_turn_ends_and_asks_for_the_next(
    stored: Stored, hints: list[str], monkeypatch: pytest.MonkeyPatch, index: SearchBackend
) -> None:
    reindex(index)
    monkeypatch.setattr(outbox, "CHUNK_MESSAGES", 1)
    monkeypatch.setattr(tasks, "TURN", 0)
    for number in range(3):
        tell(stored.message(f"hello {number}"))
    hints.clear()
    tasks.index_outbox()
    assert OutboxEntry.objects.count() == 2
    assert hints == ["hint"]
    oldest, *_ = Message.objects.order_by("pk").values_list("pk", flat=True)
    assert index.documents(oldest - 1, oldest + 2).keys() == {oldest}, "oldest first"


def test_one_indexer_leaves_the_work_to_another(stored: Stored, hints: list[str], index: SearchBackend) -> None:
    tell(stored.message("hello"))
    cache.set(outbox.LEASE, 1, outbox.LEASE_SECONDS)
    assert outbox.index() is False
    assert OutboxEntry.objects.count() == 1


def test_a_worker_that_starts_does_not_wait_for_the_lease_of_one_that_was_killed(
    stored: Stored, hints: list[str], index: SearchBackend
) -> None:
    # Given the lease of an indexer that was killed,
    tell(stored.message("hello"))
    cache.set(outbox.LEASE, 1, outbox.LEASE_SECONDS)

    # when a worker has started in its place, then it indexes at once.
    tasks.drop_lease()
    outbox.index()
    assert not OutboxEntry.objects.exists()


def test_a_lease_that_a_clock_set_back_has_stretched_is_taken_over(
    stored: Stored, hints: list[str], index: SearchBackend
) -> None:
    # Given the lease of an indexer that was killed, and a cache whose clock was set back by an hour since,
    tell(stored.message("hello"))
    cache.set(outbox.LEASE, 1, outbox.LEASE_SECONDS + 3600)

    # when the sweep comes by, then it does not wait for that hour.
    outbox.index()
    assert not OutboxEntry.objects.exists()


def test_without_a_cache_everybody_indexes(
    stored: Stored, hints: list[str], monkeypatch: pytest.MonkeyPatch, index: SearchBackend
) -> None:
    def refuse(*args: object) -> None:
        raise ConnectionError

    for name in ("add", "touch", "delete"):
        monkeypatch.setattr(cache, name, refuse)
    tell(stored.message("hello"))
    outbox.index()
    assert not OutboxEntry.objects.exists()


def test_many_indexers_at_once_do_no_harm(stored: Stored, hints: list[str], index: SearchBackend) -> None:
    reindex(index)
    messages = [stored.message(f"hello {number}") for number in range(200)]
    for number, message in enumerate(messages):
        tell(message)
        if number % 3 == 0:
            stored.change(message, f"changed {number}")
            tell(message)

    def work(client: int) -> None:
        while outbox._index_chunk():
            pass

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(outbox, "CHUNK_MESSAGES", 7)
        in_threads(work, range(8))
    assert not OutboxEntry.objects.exists()
    assert list(differences(index)) == []
    assert index.count(10**6) == 200


def test_entries_of_many_chats_and_many_numbers(stored: Stored, hints: list[str], index: SearchBackend) -> None:
    tell(*[stored.message(f"ours {n}") for n in range(1_200)], stored.message("theirs", THEIRS))
    with transaction.atomic():
        messages_stored.send(sender=Message, numbers={chat: [1] for chat in range(10_000, 10_500)})
    reindex(index)
    with CaptureQueriesContext(connection) as queries:
        outbox.index()
    assert len(queries) < 25
    assert list(differences(index)) == []
    assert index.count(10**6) == 1_201
