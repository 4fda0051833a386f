"""The FTS5 backend: the contract, and what only a file can do."""

from __future__ import annotations

import multiprocessing
import os
import sqlite3
import threading
from itertools import count
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest
from pytest_django import Settings
from rest_framework.test import APIClient

from search.backends import fts5
from search.backends.base import Scope, SearchUnavailable
from search.backends.fts5 import Fts5Backend
from tests.search.backend_contract import OURS, BackendContract, Bench


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


def test_an_index_of_another_version_is_not_searched(
    backend: Fts5Backend, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    documents = bench.say("hello")
    monkeypatch.setattr(fts5, "SCHEMA_VERSION", 2)
    monkeypatch.setattr(fts5, "SCHEMA", fts5.SCHEMA.replace("user_version = 1", "user_version = 2"))
    later = Fts5Backend(backend.path)
    with pytest.raises(SearchUnavailable, match="reindex"):
        later.ping()
    with later.rebuild() as target:
        target.index(documents)
    assert Bench(later).find("hello") == ["hello"]


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


def test_the_index_finds_an_application_without_looking_at_others(backend: Fts5Backend, bench: Bench) -> None:
    bench.say("hello")
    assert fts5._match(fts5.text.parse("hello 世界"), Scope(OURS, 3)) == (
        f'scope : "/{OURS}/3" AND terms : "hello" * AND terms : "世 界"'
    )


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
