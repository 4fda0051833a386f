from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from uuid import uuid4

import pytest
from pytest_django import Settings

from applications.models import Application
from chats.models import Chat
from chatsystem.writelog.arrival import to_datetime
from messages_app.models import Message
from search.backends import get_backend
from search.backends.base import SearchBackend, SearchUnavailable
from tests.environment import elasticsearch_url
from tests.search.backend_contract import NOON, OURS, THEIRS
from tests.services.elasticsearch import Missing, Node


@pytest.fixture(autouse=True)
def index(settings: Settings, tmp_path: Path) -> SearchBackend:
    """The index in service, empty."""
    settings.SEARCH_INDEX_PATH = tmp_path / "search.sqlite3"
    return get_backend()


@pytest.fixture(scope="session")
def node() -> Iterator[Node]:
    """An Elasticsearch node of the tests' own, for whoever kills it."""
    try:
        node = Node()
    except Missing as missing:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"no Elasticsearch: {missing}")
    yield node
    node.stop()


@pytest.fixture
def elasticsearch(request: pytest.FixtureRequest, settings: Settings) -> Iterator[str]:
    """Has search use a cluster, with indexes of this test's own; gives their prefix."""
    settings.ELASTICSEARCH_URL = elasticsearch_url or request.getfixturevalue("node").url
    settings.ELASTICSEARCH_INDEX_PREFIX = f"test-{uuid4().hex}"
    settings.SEARCH_BACKEND = "search.backends.elasticsearch.ElasticsearchBackend"
    yield settings.ELASTICSEARCH_INDEX_PREFIX
    remove_indexes(settings.ELASTICSEARCH_INDEX_PREFIX)


def remove_indexes(prefix: str) -> None:
    # A late import: without a node, the tests that need none run without its driver's help.
    from search.backends.elasticsearch.client import client

    for name in client().indices.get(index=f"{prefix}-*", features="aliases"):
        client().indices.delete(index=name)


class Stored:
    """Stores rows as the drain does, without one: each message one microsecond newer than the last."""

    def __init__(self) -> None:
        self._arrivals = count(NOON)
        self.chats = {
            token: self._chat(Application.objects.create(token=token, name=token, **self._times()))
            for token in (OURS, THEIRS)
        }

    def message(self, body: str, token: str = OURS) -> Message:
        chat = self.chats[token]
        return Message.objects.create(chat=chat, number=chat.messages.count() + 1, body=body, **self._times())

    def change(self, message: Message, body: str) -> None:
        message.body = body
        message.last_request_time = to_datetime(next(self._arrivals))
        message.save(update_fields=["body", "last_request_time"])

    def _chat(self, application: Application) -> Chat:
        return Chat.objects.create(application=application, number=1, title="chat", **self._times())

    def _times(self) -> dict[str, object]:
        moment = to_datetime(next(self._arrivals))
        return {"created_at": moment, "last_request_time": moment}


@pytest.fixture
def stored(transactional_db: None) -> Stored:
    return Stored()


class Away:
    """Stands for an index that does not answer: any method raises."""

    def __init__(self) -> None:
        self.asked = 0

    def __getattr__(self, name: str) -> object:
        self.asked += 1
        raise SearchUnavailable("away")


@pytest.fixture
def away(monkeypatch: pytest.MonkeyPatch) -> Away:
    """Takes the index away."""
    backend = Away()
    for module in ("outbox", "queries", "management.commands.reindex"):
        monkeypatch.setattr(f"search.{module}.get_backend", lambda: backend)
    return backend
