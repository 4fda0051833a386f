"""While the state Redis is down, requests that need it are 503 with Retry-After. Nothing is done or lost."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.db import OperationalError

from tests.support.harness import RealRedis, Tenant
from tests.support.places import Place, assert_error, everything, nothing_left_behind, place_of


@pytest.fixture
def away(redis_server: RealRedis) -> Iterator[Callable[[], None]]:
    """Returns a function that kills the state Redis. It is back with its data at the end of the test."""
    yield redis_server.kill
    if redis_server.process.poll() is not None:
        redis_server.start()


def assert_unavailable(response: Any) -> None:
    assert_error(response, 503, "service_unavailable")
    assert int(response.headers["Retry-After"]) > 0


def test_without_redis_every_route_is_503_and_nothing_has_happened(
    ours: Tenant, settle: Callable, redis_server: RealRedis, away: Callable
) -> None:
    places = [place_of(kind, ours) for kind in ("application", "chat", "message")]
    created = [place.create("text") for place in places]
    settle()
    before = everything()
    away()

    for place, entity in zip(places, created, strict=True):
        assert_unavailable(place.send("new"))
        assert_unavailable(place.send("new", **{"Idempotency-Key": "the key"}))
        assert_unavailable(place.api.get(place.path))
        assert_unavailable(place.api.get(place.item(entity)))
        assert_unavailable(place.api.patch(place.item(entity), {place.kind.field: "new"}, format="json"))
    assert_unavailable(ours.api.post(places[2].path, [{"body": "one"}, {"body": "two"}], format="json"))
    assert_unavailable(ours.api.get(f"/applications/{'0' * 32}"))
    # Invalid requests still get their 4xx, and the process still answers.
    assert_error(places[1].send(""), 400, "blank", "title")
    assert_error(ours.api.get("/nowhere"), 404, "not_found")
    assert ours.api.get("/health/live").status_code == 200
    ready = ours.api.get("/health/ready")
    assert (ready.status_code, ready.json()["status"]) == (503, "unavailable")
    assert int(ready.headers["Retry-After"]) > 0

    redis_server.start()

    assert everything() == before
    for place, entity in zip(places, created, strict=True):
        assert place.read(entity) == entity
        fresh = place.create("after", **{"Idempotency-Key": "the key"} if place.kind.name == "application" else {})
        if "number" in entity:
            assert fresh["number"] == entity["number"] + 1


def test_redis_restarted_between_two_writes_is_not_noticed(
    place: Place, settle: Callable, redis_server: RealRedis
) -> None:
    first = place.create("first")
    settle()

    redis_server.restart()

    assert place.read(first) == first
    second = place.create("second")
    assert second.get("number", 0) == first.get("number", -1) + 1
    assert second["created_at"] > first["created_at"]
    assert place.change(first, "changed")["last_request_time"] > second["created_at"]


def test_a_key_survives_a_restart_of_redis(place: Place, settle: Callable, redis_server: RealRedis) -> None:
    first = place.send("text", **{"Idempotency-Key": "the key"})
    settle()

    redis_server.restart()

    again = place.send("text", **{"Idempotency-Key": "the key"})
    assert (again.content, again.headers["Idempotent-Replayed"]) == (first.content, "true")


def test_a_full_log_is_503_until_it_is_drained(messages: Place, drained: Callable, settings: Any) -> None:
    created = messages.create("before")
    settings.WRITE_LOG_MAX_EVENTS = 1

    with nothing_left_behind():
        refused = messages.send("too many")
        assert_unavailable(refused)
        assert "Too many writes of this application wait to be stored" in refused.json()["errors"][0]["detail"]
        assert_unavailable(messages.api.patch(messages.item(created), {"body": "too many"}, format="json"))
    assert messages.read(created) == created

    drained()
    assert messages.create("after")["number"] == 2


def test_without_the_database_reads_are_503_and_writes_go_on(
    messages: Place, drained: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*args: object, **kwargs: object) -> Any:
        raise OperationalError("the database is away, at a secret address")

    created = messages.create("before")
    drained()

    with monkeypatch.context() as patch:
        patch.setattr("django.db.backends.utils.CursorWrapper.execute", away)
        for path in (messages.path, messages.item(created), "/applications"):
            response = messages.api.get(path)
            assert_unavailable(response)
            assert b"secret" not in response.content
        assert messages.create("meanwhile")["number"] == 2

    assert [message["body"] for message in messages.api.get(messages.path).json()["results"]] == ["before", "meanwhile"]
