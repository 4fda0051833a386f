"""`manage.py reindex`: afterwards the index equals the database, whatever it was before and despite writes."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from io import StringIO

import pytest
from django.core.management import CommandError, call_command

from messages_app.models import Message
from search import reindex
from search.backends.base import SearchBackend
from search.backends.elasticsearch import ElasticsearchBackend
from search.backends.fts5 import Fts5Backend
from search.documents import Document
from search.reindex import differences
from tests.search.backend_contract import OURS, THEIRS
from tests.search.conftest import ON_BOTH, Away, Stored, documents_by_id

pytestmark = [pytest.mark.django_db(transaction=True), ON_BOTH]


@pytest.fixture(autouse=True)
def small_ranges(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes a few messages span several ranges."""
    monkeypatch.setattr(reindex, "RANGE_SIZE", 7)


def run(*arguments: str) -> str:
    output = StringIO()
    call_command("reindex", *arguments, stdout=output)
    return output.getvalue()


def test_an_empty_database(index: SearchBackend) -> None:
    assert "0 messages are in the index" in run()
    assert "equals the database: 0 messages" in run("--verify")


def test_everything_is_indexed(stored: Stored, index: SearchBackend) -> None:
    for number in range(20):
        stored.message(f"ours {number}", OURS)
        stored.message(f"theirs {number}", THEIRS)
    with pytest.raises(CommandError, match=r"differ in 40 messages|there is no index"):
        run("--verify")
    assert "40 messages are in the index" in run()
    assert "equals the database: 40 messages" in run("--verify")
    assert "40 messages are in the index" in run(), "again"
    assert list(differences(index)) == []


def test_what_differs_is_told_and_mended(stored: Stored, index: SearchBackend) -> None:
    run()
    missing, other_text, behind, ahead, fine = (stored.message(f"message {n}") for n in range(5))
    documents = {
        document.id: document for document in documents_by_id(m.pk for m in (missing, other_text, behind, ahead, fine))
    }

    def indexed(message: Message, **changes: object) -> Document:
        document = documents[message.pk]
        fields = {name: getattr(document, name) for name in Document.__dataclass_fields__}
        return Document(**{**fields, **changes})

    index.index(
        [
            indexed(other_text, body="damaged"),
            indexed(behind, version=documents[behind.pk].version - 1),
            indexed(ahead, version=documents[ahead.pk].version + 1),
            indexed(fine),
            indexed(fine, id=fine.pk + 100),
        ]
    )
    with pytest.raises(CommandError, match="differ in 5 messages"):
        run("--verify")
    assert [difference.id for difference in differences(index)] == [
        missing.pk,
        other_text.pk,
        behind.pk,
        ahead.pk,
        fine.pk + 100,
    ]
    assert ("removed" in run()) is index.rebuilds_in_place
    assert list(differences(index)) == []
    assert index.last_id() == fine.pk


def test_documents_of_no_message_are_counted_wherever_they_are(stored: Stored, index: SearchBackend) -> None:
    # Given documents without a message, one in each of three ranges,
    run()
    [fine] = documents_by_id([stored.message("fine").pk])
    index.index([fine, *(replace(fine, id=fine.id + further) for further in (10, 20, 30))])

    # when the index is rebuilt in place, then all of them are counted.
    assert ("3 documents without a message removed" in run()) == index.rebuilds_in_place
    assert index.last_id() == fine.id


def test_it_fails_when_the_count_is_wrong(
    stored: Stored, index: SearchBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored.message("hello")
    monkeypatch.setattr(reindex, "PATIENCE", 0)
    for engine in (Fts5Backend, ElasticsearchBackend):
        monkeypatch.setattr(engine, "index", lambda self, documents: None)
    with pytest.raises(CommandError, match="holds 0 documents for 1 messages"):
        run()


def test_of_many_differences_the_first_are_told_and_all_are_counted(stored: Stored, index: SearchBackend) -> None:
    run()
    messages = [stored.message("not indexed") for _ in range(23)]
    output = StringIO()

    with pytest.raises(CommandError, match="differ in 23 messages"):
        call_command("reindex", "--verify", stdout=output)

    told = [f"message {message.pk} is not in the index" for message in messages[:20]]
    assert output.getvalue().splitlines()[1:] == told

    run()
    stored.message("one more")
    with pytest.raises(CommandError, match="differ in 1 messages"):
        run("--verify")


def test_it_says_so_when_the_index_is_away(stored: Stored, away: Away) -> None:
    with pytest.raises(CommandError, match="down"):
        run()
    with pytest.raises(CommandError, match="down"):
        run("--verify")


def test_a_change_between_reading_and_indexing_is_not_undone(
    stored: Stored, index: SearchBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    run()
    message = stored.message("old")
    read = reindex.documents_in_range

    def read_and_be_overtaken(low: int, high: int) -> list[Document]:
        documents = read(low, high)
        stored.change(message, "new")
        index.index(documents_by_id([message.pk]))
        return documents

    monkeypatch.setattr(reindex, "documents_in_range", read_and_be_overtaken)
    run()
    assert index.documents(message.pk - 1, message.pk)[message.pk].body == "new"


def test_a_message_that_commits_between_the_two_readings_stays(
    stored: Stored, index: SearchBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    run()
    message = stored.message("old")
    index.index(documents_by_id([message.pk]))
    overtaken: list[str] = []

    def then_be_overtaken(read: Callable) -> Callable:
        def reading(*arguments: object) -> object:
            result = read(*arguments)
            if not overtaken:
                overtaken.append(read.__name__)
                stored.change(message, "new")
                index.index(documents_by_id([message.pk]))
            return result

        return reading

    for engine in (Fts5Backend, ElasticsearchBackend):
        monkeypatch.setattr(engine, "documents", then_be_overtaken(engine.documents))
        monkeypatch.setattr(
            engine, "remove", lambda self, versions: pytest.fail(f"removed {versions}, at least for a moment")
        )
    monkeypatch.setattr(reindex, "documents_in_range", then_be_overtaken(reindex.documents_in_range))
    run()
    assert overtaken
    assert list(differences(index)) == []


def test_it_is_safe_while_writes_go_on(stored: Stored, index: SearchBackend) -> None:
    run()
    messages = [stored.message(f"message {n}") for n in range(60)]
    stop = threading.Event()

    def write() -> None:
        # Like the outbox: changes and new messages are indexed after their commit.
        while not stop.is_set():
            for message in messages[:10]:
                stored.change(message, "changed")
                index.index(documents_by_id([message.pk, stored.message("new").pk]))
        from django.db import connection

        connection.close()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(5):
            run()
    finally:
        stop.set()
        writer.join()
    assert list(differences(index)) == []
