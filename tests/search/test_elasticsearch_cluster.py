"""A cluster of three nodes, one of which is killed. Always nodes of these tests, never ELASTICSEARCH_URL's."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest
from elasticsearch import ApiError, TransportError
from pytest_django import Settings
from rest_framework.test import APIClient

from chatsystem.writelog.events import to_datetime
from messages_app.models import Message
from search import outbox
from search.backends.base import SearchBackend, SearchUnavailable
from search.backends.elasticsearch import bulk, indexes, query
from search.backends.elasticsearch.client import indexing_client
from search.documents import Document
from search.models import OutboxEntry
from search.reindex import differences, reindex
from tests.search.backend_contract import NOON, OURS, TwoTenants
from tests.search.conftest import Stored, remove_indexes, use_elasticsearch
from tests.support.harness import Tenant, skip_or_fail
from tests.support.product import eventually
from tests.support.services.elasticsearch import Cluster, Node
from tests.support.services.packages import Missing

pytestmark = [pytest.mark.nodes, pytest.mark.django_db(transaction=True)]


@pytest.fixture(scope="module")
def nodes() -> Iterator[Cluster]:
    try:
        cluster = Cluster()
    except Missing as missing:
        skip_or_fail(missing)
    yield cluster
    cluster.stop()


@pytest.fixture
def index(settings: Settings, nodes: Cluster) -> Iterator[SearchBackend]:
    nodes.heal()
    yield use_elasticsearch(settings, nodes.url)
    eventually(indexes_removed)


def indexes_removed() -> bool:
    try:
        remove_indexes()
    except (ApiError, TransportError):  # A killed node may have been the master.
        return False
    return True


@pytest.fixture(autouse=True)
def no_hints(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("search.tasks.index_outbox.apply_async", lambda **when: None)


def node_of(nodes: Cluster, index: str) -> Node:
    """Returns the node with the primary shard of an index, once all copies are there."""
    cluster = indexing_client().options(request_timeout=90)
    health = cluster.cluster.health(index=index, wait_for_status="green", timeout="80s")
    assert not health["timed_out"], health
    shards = cluster.cat.shards(index=index, format="json")
    return nodes.node(next(shard["node"] for shard in shards if shard["prirep"] == "p"))


def uuid(alias: str) -> str:
    """Returns what tells an index from a later one with the same name."""
    (found,) = indexing_client().indices.get_settings(index=alias, flat_settings=True).values()
    return str(found["settings"]["index.uuid"])


class Killer:
    """Kills a node while the product sends documents to the cluster."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._send = bulk._send
        self._find: Callable[[], Node] | None = None
        self._requests = 0
        self.killed: Node | None = None
        monkeypatch.setattr(bulk, "_send", self._kill_and_send)

    def kill_at(self, requests: int, find: Callable[[], Node]) -> None:
        """Kills the node that `find` returns, during the request with that number from now on."""
        self._requests, self._find = requests, find

    def _kill_and_send(self, operations: list[bulk.Operation]) -> list[bulk.Operation]:
        self._requests -= 1
        if self._find is None or self._requests:
            return self._send(operations)
        self.killed = self._find()
        killing = threading.Thread(target=self.killed.kill)
        killing.start()
        try:
            return self._send(operations)
        finally:
            killing.join()


@pytest.fixture
def killer(monkeypatch: pytest.MonkeyPatch) -> Killer:
    return Killer(monkeypatch)


def caught_up() -> bool:
    outbox.index()
    return not OutboxEntry.objects.exists()


def test_a_node_that_is_killed_in_service_costs_no_write_and_no_message(
    api: APIClient, ours: Tenant, drained: Callable[[], int], index: SearchBackend, nodes: Cluster, killer: Killer
) -> None:
    # Given an index with a replica, and a client that posts and searches,
    reindex(index)
    ours.chat()
    live = indexes.read_indexes().live
    assert live
    killer.kill_at(10, lambda: node_of(nodes, live))
    statuses = set()
    for number in range(1, 41):
        # when the node with the primary is killed, then each write is accepted (`message` asserts 201),
        ours.message(1, f"hello {number}")
        drained()
        outbox.index()
        response = api.get("/search/hello", {"application": ours.token})
        statuses.add(response.status_code)
    assert killer.killed
    assert statuses <= {200, 503}

    # and without that node the index equals the database, and everything is found.
    eventually(caught_up)
    assert indexes.read_indexes().live == live
    assert Message.objects.count() == 40
    assert list(differences(index)) == []
    eventually(lambda: api.get("/search/hello", {"application": ours.token}).json().get("count") == 40)


@pytest.mark.parametrize("replicas", [1, 0])
def test_a_node_that_is_killed_during_a_reindex_costs_no_write_and_no_message(
    stored: Stored,
    ours: Tenant,
    drained: Callable[[], int],
    index: SearchBackend,
    nodes: Cluster,
    killer: Killer,
    settings: Settings,
    replicas: int,
) -> None:
    # Given an index in service, messages that it lacks, and a client that posts,
    reindex(index)
    chat = stored.chats[OURS]
    moments = [to_datetime(NOON + 1_000 + number) for number in range(2_000)]
    Message.objects.bulk_create(
        Message(chat=chat, number=number, body=f"hello {number}", created_at=moment, last_request_time=moment)
        for number, moment in enumerate(moments, 1)
    )
    ours.chat()
    posted = 0

    def post(messages: int) -> None:
        nonlocal posted
        ours.message(1, f"hello {posted}")  # asserts 201
        posted += 1
        drained()
        outbox.index()

    def fill() -> bool:
        try:
            reindex(index, post)
        except SearchUnavailable:
            return False
        return True

    # when the node with the primary of the index being built is killed,
    killed_while_built: list[str] = []

    def node_of_building() -> Node:
        killed_while_built.append(uuid(indexes.building_alias()))
        return node_of(nodes, indexes.building_alias())

    settings.ELASTICSEARCH_REPLICAS = replicas
    killer.kill_at(3, node_of_building)
    eventually(fill)
    assert killer.killed

    # then the index is completed without that node: the same with a replica, another one without.
    eventually(caught_up)
    assert indexes.read_indexes().building is None
    assert ([uuid(indexes.live_alias())] == killed_while_built) == bool(replicas)
    assert Message.objects.count() == 2_000 + posted
    assert list(differences(index)) == []


def test_a_page_lacks_no_hits_of_a_shard_that_died_after_its_reading_began(
    index: SearchBackend, nodes: Cluster, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given three shards on three nodes, without replicas, and the first page of a result,
    settings.ELASTICSEARCH_SHARDS, settings.ELASTICSEARCH_REPLICAS = 3, 0
    with index.rebuild() as target:
        target.index([Document(id, NOON, OURS, 1, id, "hello", to_datetime(NOON + id)) for id in range(1, 31)])
    live = indexes.read_indexes().live
    assert live
    victim = node_of(nodes, live)
    first = TwoTenants(index).search("hello", limit=3)
    assert first.count == 30

    # when a node dies between the two requests for the next page, then the search is unavailable, not incomplete.
    read = query.View.page

    def overtaken(*arguments: object) -> object:
        victim.kill()
        return read(*arguments)

    monkeypatch.setattr(query.View, "page", overtaken)
    with pytest.raises(SearchUnavailable):
        TwoTenants(index).search("hello", after=first.page[-1].position)
