"""The FTS5 backend: the contract, and what concerns its file."""

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

from chatsystem.writelog.events import to_datetime
from messages_app.signals import messages_stored
from search import outbox, tasks
from search.backends.base import Hits, Scope, SearchUnavailable
from search.backends.fts5 import Fts5Backend, connection, schema
from search.backends.fts5.backend import _delete
from search.documents import Document
from search.models import OutboxEntry
from search.reindex import differences, reindex
from search.tokenizer import Query, parse, terms
from tests.search.backend_contract import NOON, OURS, THEIRS, BackendContract, TwoTenants
from tests.search.conftest import Stored


class TestFts5(BackendContract):
    @pytest.fixture
    def backend(self, tmp_path: Path) -> Fts5Backend:
        return Fts5Backend(tmp_path / "made on first use" / "search.sqlite3")


@pytest.fixture
def backend(tmp_path: Path) -> Fts5Backend:
    return Fts5Backend(tmp_path / "search.sqlite3")


@pytest.fixture
def tenants(backend: Fts5Backend) -> TwoTenants:
    return TwoTenants(backend)


def spoil(backend: Fts5Backend, content: bytes) -> None:
    backend.file.path.with_name("other").write_bytes(content)
    os.replace(backend.file.path.with_name("other"), backend.file.path)
    for suffix in ("-wal", "-shm"):
        backend.file.path.with_name(backend.file.path.name + suffix).unlink(missing_ok=True)


def bear_version(backend: Fts5Backend, version: int) -> None:
    """Makes the file look as if another version of the program had created it."""
    with closing(sqlite3.connect(backend.file.path)) as connection:
        connection.execute(f"PRAGMA user_version = {version}")
    # The process that finds it has no open connection.
    backend.file.forget()


def test_a_broken_file_is_unavailable_and_a_rebuild_makes_it_anew(backend: Fts5Backend, tenants: TwoTenants) -> None:
    documents = tenants.say("hello")
    spoil(backend, b"this is no database" * 1000)
    with pytest.raises(SearchUnavailable):
        tenants.find("hello")
    with pytest.raises(SearchUnavailable):
        backend.index(documents)
    with backend.rebuild() as target:
        target.index(documents)
    assert tenants.find("hello") == ["hello"]


@pytest.mark.parametrize("version", [schema.SCHEMA_VERSION - 1, schema.SCHEMA_VERSION + 1])
def test_an_index_of_another_version_is_not_searched(backend: Fts5Backend, tenants: TwoTenants, version: int) -> None:
    documents = tenants.say("hello")
    bear_version(backend, version)
    ours = Fts5Backend(backend.file.path)
    with pytest.raises(SearchUnavailable, match="reindex"):
        ours.ping()
    with pytest.raises(SearchUnavailable, match="reindex"):
        TwoTenants(ours).find("hello")
    with ours.rebuild() as target:
        target.index(documents)
    assert TwoTenants(ours).find("hello") == ["hello"]


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("state")
def test_an_index_of_an_earlier_version_is_made_anew_with_the_next_message(
    stored: Stored, index: Fts5Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given an index that an earlier version of the program has filled,
    monkeypatch.setattr(tasks.index_outbox, "delay", lambda: None)
    old = stored.message("old")
    reindex(index)
    bear_version(index, schema.SCHEMA_VERSION - 1)
    with pytest.raises(SearchUnavailable):
        index.ping()

    # when a message is stored, then the index is rebuilt automatically and has all messages.
    new = stored.message("new")
    with transaction.atomic():
        messages_stored.send(sender=type(new), numbers={new.chat_id: [new.number]}, applications={new.chat_id: 1})
    outbox.index()
    assert list(differences(index)) == []
    assert index.documents(0, 10**6).keys() == {old.pk, new.pk}
    assert index.is_complete()


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("state")
def test_an_index_of_a_later_version_is_left_to_those_who_made_it(
    stored: Stored, index: Fts5Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a rolling update whose new processes have rebuilt the index,
    monkeypatch.setattr(tasks.index_outbox, "delay", lambda: None)
    message = stored.message("hello")
    reindex(index)
    bear_version(index, schema.SCHEMA_VERSION + 1)
    made = index.file.path.read_bytes()

    # when an indexer of this version gets a message, then the message waits for the new ones.
    with transaction.atomic():
        numbers = {message.chat_id: [message.number]}
        messages_stored.send(sender=type(message), numbers=numbers, applications={message.chat_id: 1})
    outbox.index()
    assert index.file.path.read_bytes() == made
    assert OutboxEntry.objects.count() == 1


class Archive:
    """An index, and a naive search over the same messages to compare it with."""

    def __init__(self, backend: Fts5Backend, chance: random.Random) -> None:
        self.backend = backend
        self.chance = chance
        self.held: dict[int, Document] = {}
        self.terms: dict[int, list[str]] = {}

    def store(self, ids: Iterable[int]) -> None:
        """Gives each message a new body of random length. Its tenant, chat and creation time do not change."""
        documents = []
        for id in ids:
            fixed = random.Random(id)
            # Creation times are not in the order of ids, as after a replay of dead events, and many are equal.
            moment = NOON + fixed.randrange(300)
            version = self.held[id].version + 1 if id in self.held else moment
            length = self.chance.choice((1, 2, 3, 5, 8, 13, 30, 90, 400))
            body = " ".join(self.chance.choices(("a", "ab", "abc", "b", "bc", "cab", "世", "世界世"), k=length))
            token, chat = fixed.choice((OURS, THEIRS)), fixed.randint(1, 3)
            documents.append(Document(id, version, token, chat, id, body, to_datetime(moment)))
        self.backend.index(documents)
        for document in documents:
            self.held[document.id] = document
            self.terms[document.id] = [term or schema.GAP for term in terms(document.body)]

    def remove(self, ids: Iterable[int]) -> None:
        self.backend.remove({id: self.held.pop(id).version for id in ids})

    def find(self, query: Query, scope: Scope) -> list[int]:
        def matches(document: Document) -> bool:
            terms = f" {' '.join(self.terms[document.id])} "
            return (
                scope.application_token in (None, document.application_token)
                and scope.chat_number in (None, document.chat_number)
                and all(f" {prefix}" in terms for prefix in query.prefixes)
                and all(f" {' '.join(phrase)} " in terms for phrase in query.phrases)
            )

        def rank(document: Document) -> tuple[int, datetime, int]:
            return -bisect_left(schema.LENGTHS, len(self.terms[document.id])), document.created_at, document.id

        return [document.id for document in sorted(filter(matches, self.held.values()), key=rank, reverse=True)]

    def walk(self, query: Query, scope: Scope, limit: int) -> Iterator[Hits]:
        """Yields all pages: forwards, then backwards from the last one."""
        page = self.backend.search(query, scope, limit)
        yield page
        while page.more:
            page = self.backend.search(query, scope, limit, after=page.page[-1].position)
            yield page
        while page.page and page.page[0].position[1]:
            page = self.backend.search(query, scope, limit, before=page.page[0].position)
            yield page


@pytest.mark.parametrize("seed", range(3))
def test_hits_are_those_of_a_look_at_every_message_in_order_and_number(backend: Fts5Backend, seed: int) -> None:
    # Given messages indexed in random order, of which some were then changed and some removed,
    chance = random.Random(seed)
    archive = Archive(backend, chance)
    numbers = list(range(1, 401))
    chance.shuffle(numbers)
    for start in range(0, 400, 100):
        archive.store(numbers[start : start + 100])
    archive.store(chance.sample(numbers, 150))
    archive.remove(chance.sample(numbers, 50))

    # when they are searched page by page, then the hits are those of the naive search.
    for scope in (Scope(), Scope(OURS), Scope(OURS, 2)):
        for words in ("a", "ab", "abc", "b a", "cab bc abc", "世", "世界 c", "界世"):
            query = parse(words)
            expected = archive.find(query, scope)
            assert len(expected) > 5
            pages = list(archive.walk(query, scope, chance.randint(3, 60)))
            assert {page.count for page in pages} == {len(expected)}
            for page in pages:
                first = page.page[0].position[1]
                assert [hit.document.id for hit in page.page] == expected[first : first + len(page.page)]
            assert sorted({hit.position[1] for page in pages for hit in page.page}) == list(range(len(expected)))
            gone = (0, chance.randrange(len(expected)))
            after, before = backend.search(query, scope, 9, after=gone), backend.search(query, scope, 9, before=gone)
            assert [hit.document.id for hit in after.page] == expected[gone[1] + 1 :][:9]
            assert [hit.document.id for hit in before.page] == expected[: gone[1]][-9:]


def test_a_search_costs_nothing_for_what_others_say(backend: Fts5Backend) -> None:
    def say(token: str, first: int, count: int) -> None:
        numbers = range(first, first + count)
        backend.index([Document(n, NOON + n, token, 1, n, "hello", to_datetime(NOON + n)) for n in numbers])

    def steps() -> int:
        """Returns the number of SQLite's virtual machine instructions, several for each row that it visits."""
        taken = count()
        connection = backend.file.connection()
        connection.set_progress_handler(lambda: next(taken) < 0, 1)
        assert backend.search(parse("hello"), Scope(OURS, 1), 50).count == 100
        connection.set_progress_handler(None, 1)
        return next(taken)

    say(OURS, 10_000, 100)
    alone = steps()
    say(THEIRS, 1, 5_000)
    say(THEIRS, 20_000, 5_000)
    assert steps() < alone * 1.5


def test_a_file_that_was_replaced_is_opened_anew(backend: Fts5Backend, tenants: TwoTenants) -> None:
    tenants.say("hello")
    backend.file.discard()
    assert tenants.find("hello") == []
    tenants.say("again")
    assert tenants.find("again") == ["again"]


def test_a_locked_index_takes_no_documents_but_answers(
    backend: Fts5Backend, tenants: TwoTenants, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "BUSY_TIMEOUT", 0.1)
    documents = tenants.say("hello")
    impatient = Fts5Backend(backend.file.path)
    impatient.ping()
    other = sqlite3.connect(backend.file.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(SearchUnavailable, match="locked"):
        impatient.index(documents)
    assert TwoTenants(impatient).find("hello") == ["hello"]
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
    assert {path.stat().st_mode & 0o777 for path in backend.file.path.parent.iterdir()} == {0o600}


def test_a_connection_is_closed_with_its_thread(backend: Fts5Backend) -> None:
    connections: list[sqlite3.Connection] = []
    thread = threading.Thread(target=lambda: connections.append(backend.file.connection()))
    thread.start()
    thread.join()
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        connections[0].execute("SELECT 1")


def test_a_transaction_that_fails_leaves_nothing(backend: Fts5Backend, tenants: TwoTenants) -> None:
    (document,) = tenants.say("hello")

    def fail_half_way() -> None:
        with backend.file.write() as connection:
            _delete(connection, [document.id])
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_half_way()
    assert tenants.find("hello") == ["hello"]


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_process_has_a_connection_of_its_own(backend: Fts5Backend, tenants: TwoTenants) -> None:
    tenants.say("parent")
    inherited = backend.file.connection()
    read, write = os.pipe()
    if not (child := os.fork()):
        try:
            own = backend.file.connection() is not inherited
            tenants.say("child")
            os.write(write, b"own" if own else b"inherited")
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    assert os.read(read, 10) == b"own"
    assert backend.file.connection() is inherited
    assert tenants.find("child") == ["child"]


def test_many_threads_create_write_and_search_at_once(tmp_path: Path) -> None:
    backend = Fts5Backend(tmp_path / "search.sqlite3")
    barrier = threading.Barrier(8)
    failures: list[Exception] = []

    def work(number: int) -> None:
        tenants = TwoTenants(backend)
        tenants._ids = iter(range(number * 1_000, number * 1_000 + 1_000))
        barrier.wait()
        try:
            for _ in range(10):
                tenants.say(f"from {number}")
                tenants.search("from", Scope(OURS))
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(1, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert TwoTenants(backend).search("from").count == 80


def test_acknowledged_documents_outlive_a_power_cut(backend: Fts5Backend) -> None:
    with backend.file.read() as connection:
        assert connection.execute("PRAGMA synchronous").fetchone() == (2,), "FULL"
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_many_processes_make_the_index_at_once(tmp_path: Path) -> None:
    processes = multiprocessing.get_context("fork")
    for attempt in range(10):
        path = tmp_path / str(attempt) / "search.sqlite3"
        together = processes.Barrier(8)

        def work(number: int, path: Path = path, together: Barrier = together) -> None:
            tenants = TwoTenants(Fts5Backend(path))
            tenants._ids = count(2 * number)
            together.wait()
            tenants.say("hello")

        workers = [processes.Process(target=work, args=(number,)) for number in range(1, 9)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        assert [worker.exitcode for worker in workers] == [0] * 8
        assert TwoTenants(Fts5Backend(path)).search("hello").count == 8


def test_a_broken_file_is_answered_with_503(api: APIClient, settings: Settings) -> None:
    settings.SEARCH_INDEX_PATH.write_bytes(b"no database at all" * 1000)
    response = api.get("/search/hello")
    assert response.status_code == 503
    assert response["Retry-After"]
    assert str(settings.SEARCH_INDEX_PATH) not in response.content.decode()
