"""`manage.py reindex` on Elasticsearch, where it fills an index beside the one in service."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest
from django.conf import settings
from django.db import connection

from chatsystem.writelog.events import to_datetime
from messages_app.models import Message
from search.backends.base import SearchBackend, SearchUnavailable
from search.backends.elasticsearch import indexes
from search.backends.elasticsearch.client import client
from search.backends.elasticsearch.document import mapping
from search.reindex import differences, reindex
from tests.search.backend_contract import NOON, OURS
from tests.search.conftest import Stored, documents_by_id

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.parametrize("index", ["elasticsearch"], indirect=True),
]
MESSAGES = 20_000


def start() -> subprocess.Popen:
    """Starts `manage.py reindex` in a process, on this test's database and indexes."""
    environment = {
        **os.environ,
        "DATABASE_URL": f"sqlite:///{connection.settings_dict['NAME']}",
        "ELASTICSEARCH_URL": settings.ELASTICSEARCH_URL,
        "ELASTICSEARCH_INDEX_PREFIX": settings.ELASTICSEARCH_INDEX_PREFIX,
    }
    return subprocess.Popen(
        [sys.executable, "manage.py", "reindex"],
        cwd=settings.BASE_DIR,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def writes(name: str) -> int:
    """Returns the number of writes to an index."""
    # There are no statistics of an index whose shard has not started.
    return client().indices.stats(index=name)["_all"]["primaries"].get("indexing", {"index_total": 0})["index_total"]


def wait_for_writes(process: subprocess.Popen, number: int) -> str:
    """Waits until the index being built has had that many writes. Returns its name."""
    while True:
        assert process.poll() is None, process.communicate()[0]
        name = indexes.read_indexes().building
        if name and writes(name) >= number:
            return name
        time.sleep(0.02)


def test_a_reindex_that_was_killed_is_gone_on_with(stored: Stored, index: SearchBackend) -> None:
    chat = stored.chats[OURS]
    moments = [to_datetime(NOON + 1_000 + number) for number in range(MESSAGES)]
    Message.objects.bulk_create(
        Message(chat=chat, number=number, body=f"hello {number}", created_at=moment, last_request_time=moment)
        for number, moment in enumerate(moments, 1)
    )
    killed = start()
    name = wait_for_writes(killed, 3_000)
    killed.kill()
    killed.communicate()
    assert indexes.read_indexes().live is None, "not in service before it is complete"
    with pytest.raises(SearchUnavailable):
        index.ping()
    # Meanwhile a backup of the database was restored: one message is missing, one has an older version.
    gone, older = Message.objects.order_by("pk")[:2]
    stranger, newer = documents_by_id([gone.pk, older.pk])
    gone.delete()
    older.last_request_time = to_datetime(newer.version - 1)
    older.save(update_fields=["last_request_time"])

    written = writes(name)
    second = start()
    output = second.communicate(timeout=120)[0]
    assert second.returncode == 0, output
    assert f"{MESSAGES - 1:,} messages are in the index, 2 documents without a message removed" in output
    assert indexes.read_indexes() == indexes.Indexes(name, None, [name])
    assert list(differences(index)) == []
    assert stranger.id not in index.documents(0, stranger.id)
    # Existing documents were not written again. The request that the kill interrupted may count twice.
    assert written >= 3_000
    assert writes(name) <= MESSAGES + 1_100


def test_a_message_that_is_indexed_as_the_new_index_is_made_is_in_that_one_too(
    stored: Stored, index: SearchBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored.message("before")
    reindex(index)
    begin = indexes.begin

    def overtaken() -> str:
        index.index(documents_by_id([stored.message("into the old one").pk]))
        return begin()

    monkeypatch.setattr(indexes, "begin", overtaken)
    reindex(index)
    assert list(differences(index)) == []
    assert index.count(10**6) == 2


def build_an_index_whose_only_copy_is_gone(monkeypatch: pytest.MonkeyPatch) -> str:
    """Creates an index whose shard no node has or may get, as after a reindex whose node died."""
    monkeypatch.setattr(indexes, "LOST_AFTER", 0.5)
    return create_an_index_whose_only_copy_is_gone(indexes.building_alias())


def create_an_index_whose_only_copy_is_gone(alias: str) -> str:
    name = f"{indexes.live_alias()}-000007"
    nowhere = {"index.routing.allocation.require._name": "nobody"}
    client().indices.create(
        index=name,
        mappings=mapping(),
        settings=indexes.building_settings() | nowhere,
        aliases={alias: {}},
        wait_for_active_shards=0,
    )
    return name


def test_an_index_under_construction_whose_only_copy_is_gone_is_built_anew(
    stored: Stored, index: SearchBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a first fill whose node died,
    message = stored.message("hello")
    lost = build_an_index_whose_only_copy_is_gone(monkeypatch)

    # when the next reindex runs, then it does not wait for the node, and uses the next number.
    reindex(index)
    assert indexes.read_indexes() == indexes.Indexes(
        f"{indexes.live_alias()}-000008", None, [f"{indexes.live_alias()}-000008"]
    )
    assert lost not in indexes.read_indexes().names
    assert index.documents(0, message.pk).keys() == {message.pk}


def test_an_index_under_construction_whose_only_copy_is_gone_holds_up_no_message(
    stored: Stored, index: SearchBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given an index in service, and another whose node died while it was being built,
    reindex(index)
    build_an_index_whose_only_copy_is_gone(monkeypatch)
    in_service = indexes.read_indexes().live

    # when a message is indexed, then the index in service has it, and the other index is gone.
    message = stored.message("hello")
    index.index(documents_by_id([message.pk]))
    assert index.documents(0, message.pk).keys() == {message.pk}
    assert indexes.read_indexes() == indexes.Indexes(in_service, None, [in_service])


def test_a_reindex_replaces_an_index_in_service_whose_only_copy_is_gone(stored: Stored, index: SearchBackend) -> None:
    lost = create_an_index_whose_only_copy_is_gone(indexes.live_alias())
    message = stored.message("hello")

    reindex(index)
    assert indexes.read_indexes() == indexes.Indexes(
        f"{indexes.live_alias()}-000008", None, [lost, f"{indexes.live_alias()}-000008"]
    )
    assert index.documents(0, message.pk).keys() == {message.pk}
