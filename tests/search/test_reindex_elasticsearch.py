"""What a reindex has to get right because it fills an index beside the one in service."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest
from django.conf import settings
from django.db import connection

from chatsystem.writelog.arrival import to_datetime
from messages_app.models import Message
from search.backends.base import SearchBackend, SearchUnavailable
from search.backends.elasticsearch import indexes
from search.backends.elasticsearch.client import client
from search.comparison import differences
from search.documents import of_ids
from search.reindexing import reindex
from tests.search.backend_contract import NOON, OURS
from tests.search.conftest import Stored

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.parametrize("index", ["elasticsearch"], indirect=True),
]
MESSAGES = 20_000


def start() -> subprocess.Popen:
    """`manage.py reindex` in a process of its own, on this test's database and indexes."""
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
    """How often a document was written to an index."""
    # Nothing is told of an index whose shard has not started.
    return client().indices.stats(index=name)["_all"]["primaries"].get("indexing", {"index_total": 0})["index_total"]


def wait_for_writes(process: subprocess.Popen, number: int) -> str:
    """Until an index that is being built has taken that many; returns its name."""
    while True:
        assert process.poll() is None, process.communicate()[0]
        name = indexes.look().building
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
    assert indexes.look().live is None, "not in service before it is whole"
    with pytest.raises(SearchUnavailable):
        index.ping()
    # Another copy of the database was put back meanwhile: one message less, one as it was before.
    gone, older = Message.objects.order_by("pk")[:2]
    stranger, newer = of_ids([gone.pk, older.pk])
    gone.delete()
    older.last_request_time = to_datetime(newer.version - 1)
    older.save(update_fields=["last_request_time"])

    written = writes(name)
    second = start()
    output = second.communicate(timeout=120)[0]
    assert second.returncode == 0, output
    assert f"{MESSAGES - 1:,} messages are in the index, 2 that are of no message removed" in output
    assert indexes.look() == indexes.Indexes(name, None, [name])
    assert list(differences(index)) == []
    assert stranger.id not in index.documents(0, stranger.id)
    # What was there was left; the request that the kill cut short may count twice.
    assert written >= 3_000
    assert writes(name) <= MESSAGES + 1_100


def test_a_message_that_is_indexed_as_the_new_index_is_made_is_in_that_one_too(
    stored: Stored, index: SearchBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored.message("before")
    reindex(index)
    begin = indexes.begin

    def overtaken() -> str:
        index.index(of_ids([stored.message("into the old one").pk]))
        return begin()

    monkeypatch.setattr(indexes, "begin", overtaken)
    reindex(index)
    assert list(differences(index)) == []
    assert index.count(10**6) == 2
