from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import count
from pathlib import Path
from uuid import uuid4

import pytest
from pytest_django import Settings

from applications.models import Application
from chats.models import Chat
from chatsystem.writelog.events import to_datetime
from messages_app.models import Message
from search.backends import get_backend
from search.backends.base import SearchBackend, SearchUnavailable
from search.backends.elasticsearch import indexes
from search.backends.elasticsearch.client import client
from search.documents import Document, documents_in_range
from tests.search.backend_contract import NOON, OURS, THEIRS
from tests.support.environment import elasticsearch_url
from tests.support.harness import skip_or_fail
from tests.support.services.elasticsearch import Node
from tests.support.services.packages import Missing


@pytest.fixture(scope="session")
def node() -> Iterator[Node]:
    """Starts an Elasticsearch node for these tests, which they may kill."""
    try:
        node = Node(start_fast=True)
    except Missing as missing:
        skip_or_fail(missing)
    yield node
    node.stop()


@pytest.fixture
def cluster(request: pytest.FixtureRequest) -> str:
    """Returns the URL of an Elasticsearch."""
    return elasticsearch_url or request.getfixturevalue("node").url


def use_elasticsearch(settings: Settings, url: str) -> SearchBackend:
    """Makes search use a cluster, with indexes for this test alone."""
    settings.ELASTICSEARCH_URL = url
    settings.ELASTICSEARCH_INDEX_PREFIX = f"test-{uuid4().hex}"
    settings.SEARCH_BACKEND = "tests.search.refreshed.Refreshed"
    return get_backend()


@pytest.fixture(autouse=True)
def index(request: pytest.FixtureRequest, settings: Settings, tmp_path: Path) -> Iterator[SearchBackend]:
    """Yields the index in service, empty: on FTS5, unless the module is parametrized (ON_BOTH)."""
    settings.SEARCH_INDEX_PATH = tmp_path / "search.sqlite3"
    if getattr(request, "param", "fts5") == "fts5":
        yield get_backend()
    else:
        yield use_elasticsearch(settings, request.getfixturevalue("cluster"))
        remove_indexes()


ON_BOTH = pytest.mark.parametrize("index", ["fts5", "elasticsearch"], indirect=True)


def lose_index(settings: Settings) -> None:
    if settings.ELASTICSEARCH_URL:
        remove_indexes()
    else:
        settings.SEARCH_INDEX_PATH.unlink()


def remove_indexes() -> None:
    for name in indexes.read_indexes().names:
        client().indices.delete(index=name)


class Stored:
    """Stores rows like a drain. Each message is one microsecond newer than the last."""

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


def documents_by_id(ids: Iterable[int]) -> list[Document]:
    return [document for id in ids for document in documents_in_range(id - 1, id)]


class Away:
    """A backend that is down: each method raises."""

    def __init__(self) -> None:
        self.calls = 0

    def __getattr__(self, name: str) -> object:
        self.calls += 1
        raise SearchUnavailable("down")


@pytest.fixture
def away(monkeypatch: pytest.MonkeyPatch) -> Away:
    """Makes the index unavailable."""
    backend = Away()
    for module in ("outbox", "views", "management.commands.reindex"):
        monkeypatch.setattr(f"search.{module}.get_backend", lambda: backend)
    return backend
