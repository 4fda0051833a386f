"""The cost of requests and drains in the steady state: round trips to the state Redis, queries and memory."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import redis
from django.conf import settings
from django.db import connection
from django.test.utils import CaptureQueriesContext
from rest_framework.request import Request

from chatsystem.writelog import ownership
from chatsystem.writelog.drain import drain
from chatsystem.writelog.keys import PARTITIONS, partition_of
from tests.support.harness import Tenant
from tests.support.places import Place, place_of

#: Commands that redis-py sends when it opens a connection.
GREETING = {"HELLO", "AUTH", "SELECT", "CLIENT", "PING"}


@contextmanager
def commands() -> Iterator[list[str]]:
    """Collects the commands that clients send to the state database, without those that scripts call."""
    seen: list[str] = []
    socket = str(settings.DATA_DIR.redis_socket)
    with redis.Redis(unix_socket_path=socket) as other, other.monitor() as monitor:
        yield seen
        other.echo("the end")
        for entry in monitor.listen():
            words = entry["command"].split(" ")
            if words[0].upper() == "ECHO":
                break
            if entry["client_type"] != "lua" and entry["db"] == 0 and words[0].upper() not in GREETING:
                seen.append(words[0].upper())


@pytest.fixture(params=["undrained", "drained"])
def steady(request: pytest.FixtureRequest, place: Place, drained: Callable) -> Place:
    """A place in the steady state: connected, scripts loaded, numbers seeded."""
    ownership.keep(range(PARTITIONS))
    created = place.create("text")
    place.change(created, "changed")
    place.read(created)
    place.api.get(place.path)
    if request.param == "drained":
        drained()
        place.create("text")
    return place


def test_a_create_is_one_round_trip_and_no_query(steady: Place) -> None:
    with CaptureQueriesContext(connection) as queries, commands() as sent:
        steady.create("text")

    assert sent == ["EVALSHA"]
    assert len(queries) == 0


def test_a_create_with_a_key_is_one_round_trip_and_no_query(steady: Place) -> None:
    for what in ("the first", "the replay"):
        with CaptureQueriesContext(connection) as queries, commands() as sent:
            steady.create("text", **{"Idempotency-Key": "the key"})
        assert sent == ["EVALSHA"], what
        assert len(queries) == 0


def test_a_batch_is_one_round_trip_and_no_query(messages: Place) -> None:
    messages.create()

    with CaptureQueriesContext(connection) as queries, commands() as sent:
        messages.api.post(messages.path, [{"body": "x"}] * 1000, format="json")

    assert sent == ["EVALSHA"]
    assert len(queries) == 0


def test_a_read_is_one_round_trip_and_one_query(steady: Place) -> None:
    entity = steady.create("text")

    with CaptureQueriesContext(connection) as queries, commands() as sent:
        steady.read(entity)

    assert sent == ["HMGET"]
    assert len(queries) == 1


def test_a_change_is_two_round_trips_and_one_query(steady: Place) -> None:
    entity = steady.create("text")

    with CaptureQueriesContext(connection) as queries, commands() as sent:
        steady.change(entity, "new")

    assert sent == ["HMGET", "EVALSHA"]
    assert len(queries) == 1


@pytest.mark.parametrize("kind", ["chat", "message"])
def test_a_list_is_one_round_trip_and_at_most_two_queries(kind: str, ours: Tenant, drained: Callable) -> None:
    place = place_of(kind, ours)
    for half in ("drained", "undrained"):
        for _ in range(20):
            place.create(half)
        if half == "drained":
            drained()
    place.api.get(place.path)

    for query in ("", "?limit=1000", "?order=desc&limit=3", "?after=10&before=30", "?after=1000"):
        with CaptureQueriesContext(connection) as queries, commands() as sent:
            place.api.get(f"{place.path}{query}")
        assert sent == ["EVALSHA"], query
        assert len(queries) <= 2, query


def test_the_list_of_applications_costs_one_query_however_long_it_is(ours: Tenant, drained: Callable) -> None:
    place = place_of("application", ours)
    for _ in range(20):
        place.create()
    drained()

    with CaptureQueriesContext(connection) as queries:
        place.api.get("/applications?limit=5")

    assert len(queries) == 1


@pytest.mark.parametrize("messages", [1, 50])
def test_a_drain_of_a_chats_messages_costs_the_same_however_many(messages: int, ours: Tenant) -> None:
    partition = partition_of(ours.token)
    ours.chat()
    ours.message(1)
    drain([partition])
    ours.batch(1, ["text"] * messages)

    with CaptureQueriesContext(connection) as queries, commands() as sent:
        drain([partition])

    look = ["XLEN", "HVALS"]
    assert sent == ["DEL", *look, "GET", "XRANGE", "GET", "TIME", "EVALSHA", "EXISTS", *look], "in five round trips"
    assert [query["sql"].split()[0] for query in queries] == [
        "BEGIN",
        "SELECT",
        "SAVEPOINT",
        "SELECT",
        "SELECT",
        "INSERT",
        "UPDATE",
        "INSERT",
        "RELEASE",
        "INSERT",
        "UPDATE",
        "COMMIT",
    ]


def test_a_wrong_request_costs_nothing(steady: Place) -> None:
    with CaptureQueriesContext(connection) as queries, commands() as sent:
        steady.send("")
        steady.send_raw(b"{")
        steady.send_raw(b"{}", "text/plain")
        steady.send("text", Accept="text/html")
        steady.api.put(steady.path, {}, format="json")
        steady.api.get("/nowhere")
        steady.api.get("/applications/x")

    assert sent == []
    assert len(queries) == 0


def test_only_pages_run_the_middleware_of_pages(steady: Place) -> None:
    for path in (steady.path, "/search/text"):
        assert not hasattr(steady.api.get(path).wsgi_request, "session"), path

    for path in ("/docs", "/admin/login/", "/nowhere"):
        assert hasattr(steady.api.get(path).wsgi_request, "session"), path


@pytest.fixture
def without_collections() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def requests_in_memory() -> list[Request]:
    return [each for each in gc.get_objects() if type(each) is Request]


def test_an_answered_request_waits_for_no_collection_to_be_forgotten(steady: Place, without_collections: None) -> None:
    # An earlier test of this process may have left one, for example in the traceback of an exception.
    before = requests_in_memory()
    entity = steady.create("text")
    steady.read(entity)
    steady.change(entity, "new")
    steady.api.get(steady.path)
    steady.send("")
    steady.api.get(f"{steady.path}/nowhere")

    assert len(requests_in_memory()) == len(before)
