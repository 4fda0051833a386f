"""The Elasticsearch backend: the contract on a real node, and what concerns the cluster."""

from __future__ import annotations

import logging
import threading
from dataclasses import replace
from itertools import count

import pytest

from chatsystem.writelog.events import to_datetime
from search.backends.base import Scope, SearchBackend, SearchUnavailable
from search.backends.elasticsearch import bulk, indexes, query
from search.backends.elasticsearch.client import client
from search.documents import Document
from tests.search.backend_contract import NOON, OURS, BackendContract, TwoTenants, ids
from tests.support.harness import in_threads


@pytest.fixture
def backend(index: SearchBackend) -> SearchBackend:
    with index.rebuild():
        pass
    return index


pytestmark = pytest.mark.parametrize("index", ["elasticsearch"], indirect=True)


class TestElasticsearch(BackendContract):
    pass


@pytest.fixture
def tenants(backend: SearchBackend) -> TwoTenants:
    return TwoTenants(backend)


@pytest.fixture
def no_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk, "BACKOFF", (0.01, 0.01))


def block(reason: str, on: bool = True) -> None:
    client().indices.put_settings(index=indexes.live_alias(), settings={f"index.blocks.{reason}": on or None})


def document(id: int, body: str, version: int = NOON) -> Document:
    return Document(id, version, OURS, 1, id, body, to_datetime(NOON + id))


# Writing ----------------------------------------------------------------------------------------------------------


def test_the_highest_version_wins_whoever_comes_last(backend: SearchBackend, tenants: TwoTenants) -> None:
    versions = count(NOON)

    def write(client: int) -> None:
        for _ in range(30):
            version = next(versions)
            backend.index([document(1, f"version {version}", version)])

    in_threads(write, range(6))
    assert backend.documents(0, 1) == {1: document(1, f"version {NOON + 179}", NOON + 179)}
    assert tenants.find("version") == [f"version {NOON + 179}"]


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
    assert "rejects message 2 for good: strict_dynamic_mapping_exception" in record.getMessage()
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

    # Given a cluster that responds only once the next request is being made, then all requests succeed.
    def answer_late(operations: list[bulk.Operation]) -> list[bulk.Operation]:
        following = made.get(operations[0].id + 1)
        assert following is None or following.wait(60)
        return send(operations)

    monkeypatch.setattr(bulk, "to_source", make)
    monkeypatch.setattr(bulk, "_send", answer_late)
    backend.index([document(id, "a body") for id in made])
    assert sorted(backend.documents(0, 9)) == [1, 2, 3]


def test_nothing_makes_an_index_by_accident(index: SearchBackend) -> None:
    with pytest.raises(SearchUnavailable, match="reindex"):
        index.index([document(1, "one")])
    with pytest.raises(bulk.AliasMoved):
        bulk.write([document(1, "one")], [indexes.live_alias()])
    assert indexes.read_indexes().names == []


def test_before_the_first_message_nothing_is_found(index: SearchBackend) -> None:
    index.ping()
    assert not index.is_complete()
    assert TwoTenants(index).find("anything") == []


def test_an_index_of_another_version_is_not_searched(
    backend: SearchBackend, tenants: TwoTenants, monkeypatch: pytest.MonkeyPatch
) -> None:
    documents = tenants.say("hello")
    monkeypatch.setattr(indexes, "SCHEMA_VERSION", indexes.SCHEMA_VERSION + 1)
    assert not backend.is_complete()
    with pytest.raises(SearchUnavailable):
        backend.ping()
    with pytest.raises(SearchUnavailable):
        tenants.find("hello")
    with backend.rebuild() as target:
        target.index(documents)
    assert tenants.find("hello") == ["hello"]


# Two indexes ------------------------------------------------------------------------------------------------------


def test_writes_reach_both_indexes_while_one_is_built(backend: SearchBackend, tenants: TwoTenants) -> None:
    before = indexes.read_indexes()
    with backend.rebuild() as target:
        backend.index([document(1, "both")])
        assert backend.documents(0, 1) == target.documents(0, 1) == {1: document(1, "both")}
        target.index([document(2, "new")])
        assert tenants.find("new") == [], "not in service yet"
    assert tenants.find("new") == ["new"]
    after = indexes.read_indexes()
    assert after.live != before.live
    assert after.building is None
    assert after.old == [before.live], "kept until told otherwise"
    assert backend.drop_old() == [before.live]
    assert indexes.read_indexes() == indexes.Indexes(after.live, None, [after.live])


def test_a_rebuild_that_fails_changes_nothing_and_is_taken_up(backend: SearchBackend, tenants: TwoTenants) -> None:
    tenants.say("hello")
    before = indexes.read_indexes()

    def fail_half_way() -> None:
        with backend.rebuild() as target:
            target.index([document(99, "half-built")])
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_half_way()
    half_built = indexes.read_indexes()
    assert half_built.live == before.live
    assert half_built.building
    assert backend.drop_old() == [], "neither of the two is old"
    assert tenants.find("hello") == ["hello"]
    with backend.rebuild() as target:
        assert target.documents(0, 99) == {99: document(99, "half-built")}
    assert indexes.read_indexes().live == half_built.building


def test_a_writer_whose_indexes_change_places_writes_again(
    backend: SearchBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = backend._write_aliases
    monkeypatch.setattr(backend, "_write_aliases", lambda: [indexes.live_alias(), indexes.building_alias()])
    send = bulk._send

    def swap_after_looking(operations: list) -> list:
        monkeypatch.setattr(backend, "_write_aliases", written)
        return send(operations)

    monkeypatch.setattr(bulk, "_send", swap_after_looking)
    backend.index([document(1, "one")])
    assert sorted(backend.documents(0, 9)) == [1]


def test_many_that_begin_at_once_build_one_index(index: SearchBackend) -> None:
    names: list[str] = []
    in_threads(lambda client: names.append(indexes.begin()), range(8))
    assert len(names) == 8
    assert indexes.read_indexes().names == [names[0]]
    assert set(names) == {names[0]}


def test_an_id_that_was_removed_takes_an_older_version(backend: SearchBackend) -> None:
    backend.index([document(1, "ahead", NOON + 5)])
    backend.remove({1: NOON + 5})
    backend.index([document(1, "put back", NOON)])
    assert backend.documents(0, 1) == {1: document(1, "put back", NOON)}


# Searching --------------------------------------------------------------------------------------------------------


def test_pages_go_on_beyond_ten_thousand_hits(backend: SearchBackend, tenants: TwoTenants) -> None:
    backend.index([document(id, "same words") for id in range(1, 10_502)])
    page = tenants.search("same", limit=1_000)
    found = ids(page.page)
    while page.more:
        page = tenants.search("same", limit=1_000, after=page.page[-1].position)
        found += ids(page.page)
    assert found == list(range(10_501, 0, -1))
    assert page.count == 10_501
    assert page.page[-1].position[1] == 10_500

    # The hit before the next page is gone. Its number is used, which is higher than what one request may skip.
    gone = page.page[-3]
    backend.index([replace(gone.document, version=NOON + 1, body="gone")])
    assert ids(tenants.search("same", limit=10, after=gone.position).page) == found[-1:]
    assert ids(tenants.search("same", limit=3, before=gone.position).page) == found[-6:-3]


def test_a_page_is_read_as_of_the_moment_its_beginning_was(
    backend: SearchBackend, tenants: TwoTenants, monkeypatch: pytest.MonkeyPatch
) -> None:
    tenants.say(*["same words"] * 6)
    everything = ids(tenants.search("same").page)
    first = tenants.search("same", limit=3)
    read = query.View.page

    def overtaken(*arguments: object) -> object:
        tenants.say(*["other things altogether, at some length"] * 5, *["same"] * 3)
        client().indices.refresh(index=indexes.live_alias())
        return read(*arguments)

    monkeypatch.setattr(query.View, "page", overtaken)
    assert ids(tenants.search("same", after=first.page[-1].position).page) == everything[3:]


def test_a_number_beyond_all_hits_is_the_end(
    backend: SearchBackend, tenants: TwoTenants, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(query, "MAX_WINDOW", 2)
    documents = tenants.say(*["same words"] * 5)
    everything = ids(tenants.search("same").page)
    assert tenants.search("same", after=(999, 5)).page == []
    assert ids(tenants.search("same", limit=2, before=(999, 50)).page) == everything[-2:]
    assert ids(tenants.search("same", after=(999, 2)).page) == everything[3:]
    assert len(documents) == 5


def test_a_beginning_longer_than_those_that_are_terms_is_found(backend: SearchBackend, tenants: TwoTenants) -> None:
    long = "a" * 30
    tenants.say(long, "a" * 20 + "b")
    assert tenants.find("a" * 25) == [long]
    assert tenants.search("a" * 20, Scope()).count == 4
