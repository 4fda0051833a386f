"""The FTS5 backend: the contract, and what only a file can do."""

from __future__ import annotations

import multiprocessing
import os
import random
import sqlite3
import threading
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from contextlib import closing
from datetime import datetime
from itertools import count
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest
from django.db import transaction
from pytest_django import Settings
from rest_framework.test import APIClient

from chatsystem.writelog.arrival import to_datetime
from messages_app.signals import messages_stored
from search import outbox, tasks, text
from search.backends import fts5
from search.backends.base import Hits, Scope, SearchUnavailable
from search.backends.fts5 import Fts5Backend
from search.comparison import differences
from search.documents import Document
from search.models import OutboxEntry
from search.reindexing import reindex
from tests.search.backend_contract import NOON, OURS, THEIRS, BackendContract, Bench
from tests.search.conftest import Stored


class TestFts5(BackendContract):
    @pytest.fixture
    def backend(self, tmp_path: Path) -> Fts5Backend:
        return Fts5Backend(tmp_path / "made on first use" / "search.sqlite3")


@pytest.fixture
def backend(tmp_path: Path) -> Fts5Backend:
    return Fts5Backend(tmp_path / "search.sqlite3")


@pytest.fixture
def bench(backend: Fts5Backend) -> Bench:
    return Bench(backend)


def spoil(backend: Fts5Backend, content: bytes) -> None:
    backend.path.with_name("other").write_bytes(content)
    os.replace(backend.path.with_name("other"), backend.path)
    for suffix in ("-wal", "-shm"):
        backend.path.with_name(backend.path.name + suffix).unlink(missing_ok=True)


def bear_version(backend: Fts5Backend, version: int) -> None:
    """Has the file look as if another version of the program had made it."""
    with closing(sqlite3.connect(backend.path)) as connection:
        connection.execute(f"PRAGMA user_version = {version}")
    # A process of that other version's time had no connection to it yet.
    backend._forget()


def test_a_broken_file_is_unavailable_and_a_rebuild_makes_it_anew(backend: Fts5Backend, bench: Bench) -> None:
    documents = bench.say("hello")
    spoil(backend, b"this is no database" * 1000)
    with pytest.raises(SearchUnavailable):
        bench.find("hello")
    with pytest.raises(SearchUnavailable):
        backend.index(documents)
    with backend.rebuild() as target:
        target.index(documents)
    assert bench.find("hello") == ["hello"]


@pytest.mark.parametrize("version", [fts5.SCHEMA_VERSION - 1, fts5.SCHEMA_VERSION + 1])
def test_an_index_of_another_version_is_not_searched(backend: Fts5Backend, bench: Bench, version: int) -> None:
    documents = bench.say("hello")
    bear_version(backend, version)
    ours = Fts5Backend(backend.path)
    with pytest.raises(SearchUnavailable, match="reindex"):
        ours.ping()
    with pytest.raises(SearchUnavailable, match="reindex"):
        Bench(ours).find("hello")
    with ours.rebuild() as target:
        target.index(documents)
    assert Bench(ours).find("hello") == ["hello"]


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("state")
def test_an_index_of_an_earlier_version_is_made_anew_with_the_next_message(
    stored: Stored, index: Fts5Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given an index that the program filled before it was updated,
    monkeypatch.setattr(tasks.index_outbox, "delay", lambda: None)
    old = stored.message("old")
    reindex(index)
    bear_version(index, fts5.SCHEMA_VERSION - 1)
    with pytest.raises(SearchUnavailable):
        index.ping()

    # when a message is stored, then all are found, without anybody's doing.
    new = stored.message("new")
    with transaction.atomic():
        messages_stored.send(sender=type(new), numbers={new.chat_id: [new.number]})
    outbox.index()
    assert list(differences(index)) == []
    assert index.documents(0, 10**6).keys() == {old.pk, new.pk}
    assert index.is_complete()


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("state")
def test_an_index_of_a_later_version_is_left_to_those_who_made_it(
    stored: Stored, index: Fts5Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given an update that is being rolled out: its processes have made the index anew,
    monkeypatch.setattr(tasks.index_outbox, "delay", lambda: None)
    message = stored.message("hello")
    reindex(index)
    bear_version(index, fts5.SCHEMA_VERSION + 1)
    made = index.path.read_bytes()

    # when one of this version is told of a message, then the message waits for them.
    with transaction.atomic():
        messages_stored.send(sender=type(message), numbers={message.chat_id: [message.number]})
    outbox.index()
    assert index.path.read_bytes() == made
    assert OutboxEntry.objects.count() == 1


class Archive:
    """Messages that are looked through one by one, beside an index of them."""

    def __init__(self, backend: Fts5Backend, chance: random.Random) -> None:
        self.backend = backend
        self.chance = chance
        self.held: dict[int, Document] = {}
        self.terms: dict[int, list[str]] = {}

    def store(self, ids: Iterable[int]) -> None:
        """Says something new in place of each, of any length. Its tenant, chat and moment stay what they are."""
        documents = []
        for id in ids:
            fixed = random.Random(id)
            # As of dead events that are replayed, moments do not ascend with ids, and many are the same.
            moment = NOON + fixed.randrange(300)
            version = self.held[id].version + 1 if id in self.held else moment
            length = self.chance.choice((1, 2, 3, 5, 8, 13, 30, 90, 400))
            body = " ".join(self.chance.choices(("a", "ab", "abc", "b", "bc", "cab", "世", "世界世"), k=length))
            token, chat = fixed.choice((OURS, THEIRS)), fixed.randint(1, 3)
            documents.append(Document(id, version, token, chat, id, body, to_datetime(moment)))
        self.backend.index(documents)
        for document in documents:
            self.held[document.id] = document
            self.terms[document.id] = [term or fts5.GAP for term in text.terms(document.body)]

    def remove(self, ids: Iterable[int]) -> None:
        self.backend.remove({id: self.held.pop(id).version for id in ids})

    def find(self, query: text.Query, scope: Scope) -> list[int]:
        def matches(document: Document) -> bool:
            terms = f" {' '.join(self.terms[document.id])} "
            return (
                scope.application_token in (None, document.application_token)
                and scope.chat_number in (None, document.chat_number)
                and all(f" {prefix}" in terms for prefix in query.prefixes)
                and all(f" {' '.join(phrase)} " in terms for phrase in query.phrases)
            )

        def rank(document: Document) -> tuple[int, datetime, int]:
            return -bisect_left(fts5.LENGTHS, len(self.terms[document.id])), document.created_at, document.id

        return [document.id for document in sorted(filter(matches, self.held.values()), key=rank, reverse=True)]

    def walk(self, query: text.Query, scope: Scope, limit: int) -> Iterator[Hits]:
        """All pages: forwards, then back again from the last one."""
        page = self.backend.search(query, scope, limit)
        yield page
        while page.more:
            page = self.backend.search(query, scope, limit, after=page.page[-1].place)
            yield page
        while page.page and page.page[0].place[1]:
            page = self.backend.search(query, scope, limit, before=page.page[0].place)
            yield page


@pytest.mark.parametrize("seed", range(3))
def test_hits_are_those_of_a_look_at_every_message_in_order_and_number(backend: Fts5Backend, seed: int) -> None:
    # Given messages that came in any order, of which some were changed, to another length too, and some removed,
    chance = random.Random(seed)
    archive = Archive(backend, chance)
    numbers = list(range(1, 401))
    chance.shuffle(numbers)
    for start in range(0, 400, 100):
        archive.store(numbers[start : start + 100])
    archive.store(chance.sample(numbers, 150))
    archive.remove(chance.sample(numbers, 50))

    # when they are searched page by page, then nothing else is found than by reading them all.
    for scope in (Scope(), Scope(OURS), Scope(OURS, 2)):
        for words in ("a", "ab", "abc", "b a", "cab bc abc", "世", "世界 c", "界世"):
            query = text.parse(words)
            expected = archive.find(query, scope)
            assert len(expected) > 5
            pages = list(archive.walk(query, scope, chance.randint(3, 60)))
            assert {page.count for page in pages} == {len(expected)}
            for page in pages:
                first = page.page[0].place[1]
                assert [hit.document.id for hit in page.page] == expected[first : first + len(page.page)]
            assert sorted({hit.place[1] for page in pages for hit in page.page}) == list(range(len(expected)))
            gone = (0, chance.randrange(len(expected)))
            after, before = backend.search(query, scope, 9, after=gone), backend.search(query, scope, 9, before=gone)
            assert [hit.document.id for hit in after.page] == expected[gone[1] + 1 :][:9]
            assert [hit.document.id for hit in before.page] == expected[: gone[1]][-9:]


def test_a_search_costs_nothing_for_what_others_say(backend: Fts5Backend) -> None:
    def say(token: str, first: int, count: int) -> None:
        numbers = range(first, first + count)
        backend.index([Document(n, NOON + n, token, 1, n, "hello", to_datetime(NOON + n)) for n in numbers])

    def steps() -> int:
        """Instructions of SQLite's machine, which takes several for each row that it looks at."""
        taken = count()
        connection = backend._connection()
        connection.set_progress_handler(lambda: next(taken) < 0, 1)
        assert backend.search(text.parse("hello"), Scope(OURS, 1), 50).count == 100
        connection.set_progress_handler(None, 1)
        return next(taken)

    say(OURS, 10_000, 100)
    alone = steps()
    say(THEIRS, 1, 5_000)
    say(THEIRS, 20_000, 5_000)
    assert steps() < alone * 1.5


def test_a_file_that_was_replaced_is_opened_anew(backend: Fts5Backend, bench: Bench) -> None:
    bench.say("hello")
    backend._discard()
    assert bench.find("hello") == []
    bench.say("again")
    assert bench.find("again") == ["again"]


def test_a_locked_index_takes_no_documents_but_answers(
    backend: Fts5Backend, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fts5, "BUSY_TIMEOUT", 0.1)
    documents = bench.say("hello")
    impatient = Fts5Backend(backend.path)
    impatient.ping()
    other = sqlite3.connect(backend.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(SearchUnavailable, match="locked"):
        impatient.index(documents)
    assert Bench(impatient).find("hello") == ["hello"]
    other.execute("ROLLBACK")
    other.close()
    impatient.index(documents)


def test_a_folder_that_cannot_be_written_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(SearchUnavailable):
        Fts5Backend(tmp_path / "file" / "search.sqlite3").ping()


def test_nobody_else_reads_the_file(backend: Fts5Backend) -> None:
    mask = os.umask(0)
    try:
        backend.ping()
    finally:
        os.umask(mask)
    assert {path.stat().st_mode & 0o777 for path in backend.path.parent.iterdir()} == {0o600}


def test_a_connection_is_closed_with_its_thread(backend: Fts5Backend) -> None:
    connections: list[sqlite3.Connection] = []
    thread = threading.Thread(target=lambda: connections.append(backend._connection()))
    thread.start()
    thread.join()
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        connections[0].execute("SELECT 1")


def test_a_transaction_that_fails_leaves_nothing(backend: Fts5Backend, bench: Bench) -> None:
    (document,) = bench.say("hello")

    def fail_half_way() -> None:
        with backend._write() as connection:
            backend._delete(connection, [document.id])
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_half_way()
    assert bench.find("hello") == ["hello"]


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_process_has_a_connection_of_its_own(backend: Fts5Backend, bench: Bench) -> None:
    bench.say("parent")
    inherited = backend._connection()
    read, write = os.pipe()
    if not (child := os.fork()):
        try:
            own = backend._connection() is not inherited
            bench.say("child")
            os.write(write, b"own" if own else b"inherited")
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    assert os.read(read, 10) == b"own"
    assert backend._connection() is inherited
    assert bench.find("child") == ["child"]


def test_many_threads_create_write_and_search_at_once(tmp_path: Path) -> None:
    backend = Fts5Backend(tmp_path / "search.sqlite3")
    barrier = threading.Barrier(8)
    failures: list[Exception] = []

    def work(number: int) -> None:
        bench = Bench(backend)
        bench._ids = iter(range(number * 1_000, number * 1_000 + 1_000))
        barrier.wait()
        try:
            for _ in range(10):
                bench.say(f"from {number}")
                bench.search("from", Scope(OURS))
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(1, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert Bench(backend).search("from").count == 80


def test_acknowledged_documents_outlive_a_power_cut(backend: Fts5Backend) -> None:
    with backend._read() as connection:
        assert connection.execute("PRAGMA synchronous").fetchone() == (2,), "FULL"
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_many_processes_make_the_index_at_once(tmp_path: Path) -> None:
    processes = multiprocessing.get_context("fork")
    for attempt in range(10):
        path = tmp_path / str(attempt) / "search.sqlite3"
        together = processes.Barrier(8)

        def work(number: int, path: Path = path, together: Barrier = together) -> None:
            bench = Bench(Fts5Backend(path))
            bench._ids = count(2 * number)
            together.wait()
            bench.say("hello")

        workers = [processes.Process(target=work, args=(number,)) for number in range(1, 9)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        assert [worker.exitcode for worker in workers] == [0] * 8
        assert Bench(Fts5Backend(path)).search("hello").count == 8


def test_a_broken_file_is_answered_with_503(api: APIClient, settings: Settings) -> None:
    settings.SEARCH_INDEX_PATH.write_bytes(b"no database at all" * 1000)
    response = api.get("/search/hello")
    assert response.status_code == 503
    assert response["Retry-After"]
    assert str(settings.SEARCH_INDEX_PATH) not in response.content.decode()
