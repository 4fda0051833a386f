"""A cluster that is killed or hangs, and recovers. Always a node of these tests, never ELASTICSEARCH_URL's."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Iterator
from itertools import count

import pytest
from django.core.cache import cache
from pytest_django import Settings
from rest_framework.test import APIClient

from search import outbox, tasks
from search.backends.base import SearchBackend, SearchUnavailable
from search.backends.elasticsearch import ElasticsearchBackend
from search.models import OutboxEntry
from search.reindex import differences
from tests.search.backend_contract import TwoTenants
from tests.search.conftest import remove_indexes, use_elasticsearch
from tests.support.harness import Tenant
from tests.support.services.elasticsearch import Node

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def no_hints(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("search.tasks.index_outbox.apply_async", lambda **when: None)


@pytest.fixture
def index(settings: Settings, node: Node) -> Iterator[SearchBackend]:
    yield use_elasticsearch(settings, node.url)
    if node.process.poll() is not None:
        node.start()
    remove_indexes()


@pytest.fixture
def hanging(node: Node, settings: Settings) -> Iterator[None]:
    """The node accepts connections and does not respond."""
    settings.ELASTICSEARCH_TIMEOUT = 1.0
    node.process.send_signal(signal.SIGSTOP)
    yield
    node.process.send_signal(signal.SIGCONT)


def test_a_cluster_that_was_killed_costs_searches_and_no_message(
    api: APIClient, ours: Tenant, drained: object, index: SearchBackend, node: Node, caplog: pytest.LogCaptureFixture
) -> None:
    ours.chat()
    ours.batch(1, ["hello one", "hello two"])
    drained()
    outbox.index()
    assert api.get("/search/hello", {"application": ours.token}).json()["count"] == 2

    node.kill()
    response = api.get("/search/hello", {"application": ours.token})
    assert response.status_code == 503
    assert int(response["Retry-After"]) >= 1
    assert api.get("/health/ready").json()["dependencies"]["search"] == "down: SearchUnavailable (ConnectionError)"
    ours.message(1, "hello three")
    drained()
    with caplog.at_level(logging.INFO):
        for _ in range(10):
            tasks.index_outbox()
    assert sum("the index is down" in record.getMessage() for record in caplog.records) == 1
    assert outbox.lag().entries == 1

    node.start()
    cache.delete(outbox.LEASE)  # as it expires
    tasks.index_outbox()
    assert outbox.lag() == outbox.Lag(0, 0.0)
    assert list(differences(index)) == []
    assert api.get("/search/hello", {"application": ours.token}).json()["count"] == 3


def test_a_node_that_is_killed_while_it_is_written_to_loses_nothing(
    ours: Tenant, drained: object, index: SearchBackend, node: Node
) -> None:
    ours.chat()
    ours.batch(1, ["the first"])
    drained()
    outbox.index()

    numbers = count(1)

    def write() -> None:
        number = next(numbers)
        ours.batch(1, [f"message {number}.{each}" for each in range(100)])
        drained()
        cache.delete(outbox.LEASE)
        outbox.index()

    killer = threading.Timer(0.5, node.kill)
    killer.start()
    while killer.is_alive():
        write()
    # The node may have died between two writes.
    write()
    assert OutboxEntry.objects.exists()

    node.start()
    cache.delete(outbox.LEASE)
    outbox.index()
    assert not OutboxEntry.objects.exists()
    assert list(differences(index)) == []


def test_a_cluster_that_hangs_is_waited_for_no_longer_than_the_time_out(
    index: SearchBackend, node: Node, hanging: None
) -> None:
    with pytest.raises(SearchUnavailable, match="ConnectionTimeout") as raised:
        index.ping()
    timeout = raised.value.__cause__
    assert timeout
    # The client's default is 10 s.
    assert "read timeout=1.0" in str(timeout.__cause__)


def test_slow_searches_take_a_few_threads_and_turn_the_others_away_at_once(
    index: SearchBackend, node: Node, hanging: None
) -> None:
    told: list[str] = []
    # Not the class Refreshed, which requests a refresh before it acquires the semaphore.
    backend = ElasticsearchBackend()
    together = threading.Barrier(12)

    def search(client: int) -> None:
        together.wait()
        with pytest.raises(SearchUnavailable) as raised:
            TwoTenants(backend).search("hello")
        told.append(str(raised.value))

    threads = [threading.Thread(target=search, args=(client,)) for client in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ["all searches" in why for why in told] == [True] * 8 + [False] * 4, "eight were rejected at once"
    assert all("ConnectionTimeout" in why for why in told[8:]), "four waited for the cluster"


def test_the_place_of_a_search_is_given_back(index: SearchBackend, node: Node, settings: Settings) -> None:
    tenants = TwoTenants(ElasticsearchBackend())
    node.kill()
    for _ in range(settings.ELASTICSEARCH_SEARCHES + 1):
        with pytest.raises(SearchUnavailable, match="Connection"):
            tenants.search("hello")
    node.start()
    assert tenants.search("hello").count == 0
