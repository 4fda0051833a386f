"""From the drain to the index: no outbox entry is deleted before the index has its messages."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from datetime import timedelta

import pytest
from django.core.cache import cache
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from kombu.exceptions import OperationalError
from pytest_django import Settings

from chatsystem.jobs import job_stepped
from messages_app.models import Message
from messages_app.signals import messages_stored
from search import outbox, tasks
from search.backends.base import SearchBackend
from search.documents import Document
from search.models import OutboxEntry
from search.reindex import differences, reindex
from tests.search.backend_contract import THEIRS
from tests.search.conftest import ON_BOTH, Away, Stored, lose_index
from tests.support.harness import Tenant, in_threads

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("state"), ON_BOTH]


@pytest.fixture
def hints(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Records the hints that are sent."""
    sent: list[str] = []
    monkeypatch.setattr(tasks.index_outbox, "apply_async", lambda **when: sent.append("hint"))
    return sent


def tell(*messages: Message) -> None:
    """Sends the drain's signal, inside a transaction."""
    numbers: dict[int, list[int]] = {}
    for message in messages:
        numbers.setdefault(message.chat_id, []).append(message.number)
    applications = {message.chat_id: message.chat.application_id for message in messages}
    with transaction.atomic():
        messages_stored.send(sender=Message, numbers=numbers, applications=applications)


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
    # Given several commits, then one hint is sent for all of them,
    for _ in range(3):
        tell(stored.message("hello"))
    assert hints == ["hint"]
    # and after the indexer has started, the next commit hints again.
    tasks.index_outbox()
    assert not OutboxEntry.objects.exists()
    tell(stored.message("hello"))
    assert hints == ["hint", "hint"]


def test_a_hint_that_cannot_be_sent_harms_nothing(stored: Stored, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**when: object) -> None:
        raise OperationalError("no broker")

    monkeypatch.setattr(tasks.index_outbox, "apply_async", refuse)
    tell(stored.message("hello"))
    tasks.index_outbox()
    assert not OutboxEntry.objects.exists()


def test_an_index_that_is_away_leaves_the_entries_and_is_not_pestered(
    stored: Stored, hints: list[str], away: Away, caplog: pytest.LogCaptureFixture
) -> None:
    tell(stored.message("hello"))
    with caplog.at_level(logging.INFO):
        for _ in range(40):
            tasks.index_outbox()
    assert OutboxEntry.objects.count() == 1
    assert away.calls == 1
    assert len(caplog.records) == 1
    assert hints == ["hint"], "only that of the commit"


def test_the_outbox_drains_when_the_index_is_back(stored: Stored, hints: list[str], index: SearchBackend) -> None:
    message = stored.message("hello")
    tell(message)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(outbox, "get_backend", Away)
        outbox.index()
    cache.delete(outbox.LEASE)  # as it expires
    tasks.index_outbox()
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
    assert 300 <= lag.seconds < 360
    outbox.index()
    assert outbox.lag() == outbox.Lag(0, 0.0)


def test_an_entry_outlives_an_indexer_that_dies(stored: Stored, hints: list[str], index: SearchBackend) -> None:
    # Without this, the new index would be filled from the database and not from the outbox.
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
        tasks.index_outbox()
    assert len(queries) == 1


def test_a_turn_ends_and_asks_for_the_next(
    stored: Stored, hints: list[str], monkeypatch: pytest.MonkeyPatch, index: SearchBackend
) -> None:
    reindex(index)
    monkeypatch.setattr(outbox, "CHUNK_MESSAGES", 1)
    monkeypatch.setattr(tasks, "INDEX_TURN", 0)
    for number in range(3):
        tell(stored.message(f"hello {number}"))
    hints.clear()
    tasks.index_outbox()
    assert OutboxEntry.objects.count() == 2
    assert hints == ["hint"]
    oldest, *_ = Message.objects.order_by("pk").values_list("pk", flat=True)
    assert index.documents(oldest - 1, oldest + 2).keys() == {oldest}, "oldest first"


def test_a_hint_and_a_lease_are_believed_for_no_longer_than_documented(
    stored: Stored, hints: list[str], index: SearchBackend, away: Away
) -> None:
    # Given an index that is down,
    tell(stored.message("hello"))
    assert cache.ttl(tasks.HINTED) <= 2

    # when an indexer runs, then the next one may try a second later. The lease of a killed one expires after 6 s.
    outbox.index()
    assert cache.pttl(outbox.LEASE) <= 1_000
    cache.delete(outbox.LEASE)
    assert outbox._take_lease()
    assert cache.pttl(outbox.LEASE) <= 6_000


LONG = 5_000


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three LONG texts fill a chunk."""
    monkeypatch.setattr(outbox, "CHUNK_BYTES", 3 * LONG)


def test_a_neighbours_message_waits_for_one_chunk_of_an_applications_long_texts(
    stored: Stored, hints: list[str], index: SearchBackend, small_chunks: None
) -> None:
    # Given an application's backlog of long texts, and a neighbour's message behind it,
    reindex(index)
    for _ in range(3):
        tell(*[stored.message("x" * LONG) for _ in range(4)])
    outbox._index_chunk()
    assert index.count(10**6) == 3
    neighbour = stored.message("neighbour", THEIRS)
    tell(neighbour)

    # when one more chunk is indexed, then it has the message, and long texts still wait.
    outbox._index_chunk()
    assert index.documents(neighbour.pk - 1, neighbour.pk)
    assert index.count(10**6) < 12
    # In the end everything is indexed.
    outbox.index()
    assert not OutboxEntry.objects.exists()
    assert list(differences(index)) == []


def test_what_of_an_entry_does_not_fit_a_chunk_is_kept_until_it_is_indexed(
    stored: Stored, hints: list[str], index: SearchBackend, small_chunks: None
) -> None:
    reindex(index)
    messages = [stored.message("x" * LONG) for _ in range(7)]
    tell(*messages)

    outbox._index_chunk()

    # The rest is still in the entry, so an indexer that dies here loses nothing.
    (entry,) = OutboxEntry.objects.all()
    assert entry.messages == [[messages[0].chat_id, [message.number for message in messages[3:]]]]
    assert index.documents(0, messages[-1].pk).keys() == {message.pk for message in messages[:3]}
    outbox.index()
    assert not OutboxEntry.objects.exists()
    assert list(differences(index)) == []


def test_a_fill_of_long_texts_lets_a_new_message_through(
    stored: Stored, hints: list[str], index: SearchBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a new index, a database of long texts, and a message that is posted while the index is filled,
    monkeypatch.setattr("search.documents.CHUNK_BYTES", LONG)
    for _ in range(5):
        stored.message("x" * LONG)
    tell(stored.message("the one that starts the fill"))
    seen: list[int] = []
    # The index being built may be an object of another class.
    kind = next(kind for kind in type(index).__mro__ if "index" in vars(kind))
    write = kind.index

    def post_meanwhile(target: SearchBackend, documents: Sequence[Document]) -> None:
        if not seen:
            tell(stored.message("meanwhile", THEIRS))
        seen.extend(document.id for document in documents)
        write(target, documents)

    monkeypatch.setattr(kind, "index", post_meanwhile)

    # when the index is filled, then the message is indexed before the last long text.
    outbox.index()
    new = Message.objects.get(body="meanwhile").pk
    assert seen.index(new) < seen.index(new - 2)
    assert list(differences(index)) == []


def test_an_index_that_is_new_is_filled_also_while_nobody_posts(
    stored: Stored, hints: list[str], index: SearchBackend
) -> None:
    # Given a message without an outbox entry, and a new index, as after an update with another schema version,
    message = stored.message("hello")
    assert not index.is_complete()

    # when a worker starts, then the index is filled.
    tasks.complete_index()
    assert index.is_complete()
    assert index.documents(0, message.pk)


def test_a_jobs_steps_let_messages_into_the_index(stored: Stored, hints: list[str], index: SearchBackend) -> None:
    # Given a running job, which occupies the indexer's process, and a new index,
    tell(stored.message("hello"))
    job_stepped.send(sender=None)
    # then the index is not filled between two steps, which might take hours;
    assert OutboxEntry.objects.exists()
    # but a complete index gets the message.
    reindex(index)
    job_stepped.send(sender=None)
    assert not OutboxEntry.objects.exists()
    assert list(differences(index)) == []


def test_a_sweep_puts_no_second_indexer_on_a_chunk_that_takes_longer_than_the_lease(
    stored: Stored, hints: list[str], index: SearchBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a chunk that takes longer than the lease lasts,
    reindex(index)
    tell(stored.message("hello"))
    monkeypatch.setattr(outbox, "LEASE_SECONDS", 1)
    write, calls = index.index, []

    def take_long(documents: Sequence[Document]) -> None:
        calls.append(len(documents))
        if len(calls) == 1:
            time.sleep(2.5)
            in_threads(lambda client: tasks.index_outbox(), range(1))
        write(documents)

    monkeypatch.setattr(index, "index", take_long)

    # when a sweep runs meanwhile, then it does not index.
    outbox.index()
    assert calls == [1]
    assert not OutboxEntry.objects.exists()


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

    # when another worker starts, then it indexes at once.
    tasks.drop_lease()
    outbox.index()
    assert not OutboxEntry.objects.exists()


def test_a_lease_that_a_clock_set_back_has_stretched_is_taken_over(
    stored: Stored, hints: list[str], index: SearchBackend
) -> None:
    # Given the lease of a killed indexer, and a cache whose clock was then set back by an hour,
    tell(stored.message("hello"))
    cache.set(outbox.LEASE, 1, outbox.LEASE_SECONDS + 3600)

    # when the sweep runs, then it does not wait for an hour.
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
        gone = range(10_000, 10_500)
        messages_stored.send(sender=Message, numbers={chat: [1] for chat in gone}, applications=dict.fromkeys(gone, 1))
    reindex(index)
    with CaptureQueriesContext(connection) as queries:
        outbox.index()
    assert len(queries) < 25
    assert list(differences(index)) == []
    assert index.count(10**6) == 1_201
