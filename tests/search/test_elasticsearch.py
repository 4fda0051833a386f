"""The Elasticsearch backend: the contract on a real node, and what only a cluster can do."""

from __future__ import annotations

import logging
import threading
from dataclasses import replace
from itertools import count

import pytest

from chatsystem.writelog.arrival import to_datetime
from search.backends.base import Scope, SearchBackend, SearchUnavailable
from search.backends.elasticsearch import bulk, indexes, view
from search.backends.elasticsearch.client import client
from search.documents import Document
from tests.bench import in_threads
from tests.search.backend_contract import NOON, OURS, BackendContract, Bench, ids


@pytest.fixture
def backend(index: SearchBackend) -> SearchBackend:
    with index.rebuild():
        pass
    return index


pytestmark = pytest.mark.parametrize("index", ["elasticsearch"], indirect=True)


class TestElasticsearch(BackendContract):
    pass


@pytest.fixture
def bench(backend: SearchBackend) -> Bench:
    return Bench(backend)


@pytest.fixture
def no_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk, "BACKOFF", (0.01, 0.01))


def block(reason: str, on: bool = True) -> None:
    client().indices.put_settings(index=indexes.live(), settings={f"index.blocks.{reason}": on or None})


def document(id: int, body: str, version: int = NOON) -> Document:
    return Document(id, version, OURS, 1, id, body, to_datetime(NOON + id))


# Writing ----------------------------------------------------------------------------------------------------------


def test_the_highest_version_wins_whoever_comes_last(backend: SearchBackend, bench: Bench) -> None:
    versions = count(NOON)

    def write(client: int) -> None:
        for _ in range(30):
            version = next(versions)
            backend.index([document(1, f"version {version}", version)])

    in_threads(write, range(6))
    assert backend.documents(0, 1) == {1: document(1, f"version {NOON + 179}", NOON + 179)}
    assert bench.find("version") == [f"version {NOON + 179}"]


def test_a_document_that_the_index_refuses_is_logged_and_the_others_are_taken(
    backend: SearchBackend, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    to_source = bulk.to_source

    def spoil(document: Document) -> dict:
        return to_source(document) | ({"surprise": "secret"} if document.id == 2 else {})

    monkeypatch.setattr(bulk, "to_source", spoil)
    backend.index([document(id, "a secret") for id in (1, 2, 3)])
    assert sorted(backend.documents(0, 9)) == [1, 3]
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert "refuses message 2 for good: strict_dynamic_mapping_exception" in record.getMessage()
    assert "secret" not in record.getMessage()


def test_what_the_cluster_is_too_busy_for_is_tried_again(
    backend: SearchBackend, no_backoff: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    block("read_only_allow_delete")  # as on a full disk: 429 for each document
    with pytest.raises(SearchUnavailable, match="too busy for 2 documents"):
        backend.index([document(1, "one"), document(2, "two")])
    pauses: list[float] = []

    def rest(seconds: float) -> None:
        pauses.append(seconds)
        block("read_only_allow_delete", False)

    monkeypatch.setattr(bulk.time, "sleep", rest)
    backend.index([document(1, "one"), document(2, "two")])
    assert pauses == [0.01]
    assert sorted(backend.documents(0, 9)) == [1, 2]


def test_a_cluster_that_takes_no_documents_is_unavailable(backend: SearchBackend) -> None:
    block("write")
    with pytest.raises(SearchUnavailable, match="403"):
        backend.index([document(1, "one")])


def test_large_documents_are_sent_in_parts(backend: SearchBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk, "CHUNK_BYTES", 50_000)
    sent: list[int] = []
    send = bulk._send
    monkeypatch.setattr(bulk, "_send", lambda operations: sent.append(len(operations)) or send(operations))
    backend.index([document(id, "word " * 1_000) for id in range(1, 41)])
    assert len(sent) > 5
    assert len(backend.documents(0, 99)) == 40


def test_the_next_request_is_made_while_the_cluster_is_at_the_one_before(
    backend: SearchBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk, "CHUNK_OPERATIONS", 1)
    send, to_source = bulk._send, bulk.to_source
    made = {id: threading.Event() for id in (1, 2, 3)}

    def make(document: Document) -> dict:
        made[document.id].set()
        return to_source(document)

    # Given a cluster that answers each request as soon as the next one is being made, then all are answered.
    def answer_late(operations: list[bulk.Operation]) -> list[bulk.Operation]:
        following = made.get(operations[0].id + 1)
        assert following is None or following.wait(10)
        return send(operations)

    monkeypatch.setattr(bulk, "to_source", make)
    monkeypatch.setattr(bulk, "_send", answer_late)
    backend.index([document(id, "a body") for id in made])
    assert sorted(backend.documents(0, 9)) == [1, 2, 3]


def test_nothing_makes_an_index_by_accident(index: SearchBackend) -> None:
    with pytest.raises(SearchUnavailable, match="reindex"):
        index.index([document(1, "one")])
    with pytest.raises(bulk.Moved):
        bulk.write([document(1, "one")], [indexes.live()])
    assert indexes.look().names == []


def test_before_the_first_message_nothing_is_found(index: SearchBackend) -> None:
    index.ping()
    assert not index.is_complete()
    assert Bench(index).find("anything") == []


def test_an_index_of_another_version_is_not_searched(
    backend: SearchBackend, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    documents = bench.say("hello")
    monkeypatch.setattr(indexes, "SCHEMA_VERSION", 2)
    assert not backend.is_complete()
    with pytest.raises(SearchUnavailable):
        backend.ping()
    with pytest.raises(SearchUnavailable):
        bench.find("hello")
    with backend.rebuild() as target:
        target.index(documents)
    assert bench.find("hello") == ["hello"]


# Two indexes ------------------------------------------------------------------------------------------------------


def test_writes_reach_both_indexes_while_one_is_built(backend: SearchBackend, bench: Bench) -> None:
    before = indexes.look()
    with backend.rebuild() as target:
        backend.index([document(1, "both")])
        assert backend.documents(0, 1) == target.documents(0, 1) == {1: document(1, "both")}
        target.index([document(2, "new")])
        assert bench.find("new") == [], "not in service yet"
    assert bench.find("new") == ["new"]
    after = indexes.look()
    assert after.live != before.live
    assert after.building is None
    assert after.old == [before.live], "kept until told otherwise"
    assert backend.drop_old() == [before.live]
    assert indexes.look() == indexes.Indexes(after.live, None, [after.live])


def test_a_rebuild_that_fails_changes_nothing_and_is_taken_up(backend: SearchBackend, bench: Bench) -> None:
    bench.say("hello")
    before = indexes.look()

    def fail_half_way() -> None:
        with backend.rebuild() as target:
            target.index([document(99, "half-built")])
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_half_way()
    half_built = indexes.look()
    assert half_built.live == before.live
    assert half_built.building
    assert backend.drop_old() == [], "neither of the two is old"
    assert bench.find("hello") == ["hello"]
    with backend.rebuild() as target:
        assert target.documents(0, 99) == {99: document(99, "half-built")}
    assert indexes.look().live == half_built.building


def test_a_writer_whose_indexes_change_places_writes_again(
    backend: SearchBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = backend._written
    monkeypatch.setattr(backend, "_written", lambda: [indexes.live(), indexes.building()])
    send = bulk._send

    def swap_after_looking(operations: list) -> list:
        monkeypatch.setattr(backend, "_written", written)
        return send(operations)

    monkeypatch.setattr(bulk, "_send", swap_after_looking)
    backend.index([document(1, "one")])
    assert sorted(backend.documents(0, 9)) == [1]


def test_many_that_begin_at_once_build_one_index(index: SearchBackend) -> None:
    names: list[str] = []
    in_threads(lambda client: names.append(indexes.begin()), range(8))
    assert len(names) == 8
    assert indexes.look().names == [names[0]]
    assert set(names) == {names[0]}


def test_an_id_that_was_removed_takes_an_older_version(backend: SearchBackend) -> None:
    backend.index([document(1, "ahead", NOON + 5)])
    backend.remove({1: NOON + 5})
    backend.index([document(1, "put back", NOON)])
    assert backend.documents(0, 1) == {1: document(1, "put back", NOON)}


# Searching --------------------------------------------------------------------------------------------------------


def test_pages_go_on_beyond_ten_thousand_hits(backend: SearchBackend, bench: Bench) -> None:
    backend.index([document(id, "same words") for id in range(1, 10_502)])
    page = bench.search("same", limit=1_000)
    found = ids(page.page)
    while page.more:
        page = bench.search("same", limit=1_000, after=page.page[-1].place)
        found += ids(page.page)
    assert found == list(range(10_501, 0, -1))
    assert page.count == 10_501
    assert page.page[-1].place[1] == 10_500

    # The hit that the next page would go on after is gone: its number, beyond what one request may skip, serves.
    gone = page.page[-3]
    backend.index([replace(gone.document, version=NOON + 1, body="gone")])
    assert ids(bench.search("same", limit=10, after=gone.place).page) == found[-1:]
    assert ids(bench.search("same", limit=3, before=gone.place).page) == found[-6:-3]


def test_a_page_is_read_as_of_the_moment_its_beginning_was(
    backend: SearchBackend, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.say(*["same words"] * 6)
    everything = ids(bench.search("same").page)
    first = bench.search("same", limit=3)
    read = view.View.page

    def overtaken(*arguments: object) -> object:
        bench.say(*["other things altogether, at some length"] * 5, *["same"] * 3)
        client().indices.refresh(index=indexes.live())
        return read(*arguments)

    monkeypatch.setattr(view.View, "page", overtaken)
    assert ids(bench.search("same", after=first.page[-1].place).page) == everything[3:]


def test_a_number_beyond_all_hits_is_the_end(
    backend: SearchBackend, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(view, "STRIDE", 2)
    documents = bench.say(*["same words"] * 5)
    everything = ids(bench.search("same").page)
    assert bench.search("same", after=(999, 5)).page == []
    assert ids(bench.search("same", limit=2, before=(999, 50)).page) == everything[-2:]
    assert ids(bench.search("same", after=(999, 2)).page) == everything[3:]
    assert len(documents) == 5


def test_a_beginning_longer_than_those_that_are_terms_is_found(backend: SearchBackend, bench: Bench) -> None:
    long = "a" * 30
    bench.say(long, "a" * 20 + "b")
    assert bench.find("a" * 25) == [long]
    assert bench.search("a" * 20, Scope()).count == 4
