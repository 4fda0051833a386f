"""RATE_LIMIT applies to each application, and is off by default."""

from __future__ import annotations

import json
import re
import signal
import time
from collections import Counter
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.cache import caches
from django.core.management import CommandError, call_command
from django.http import HttpResponse
from django_redis import get_redis_connection
from rest_framework.test import APIClient

from chatsystem.api import rate_limit
from tests.api.test_cost import commands
from tests.support.harness import RealRedis, Tenant, in_threads
from tests.support.places import UNKNOWN_TOKEN, assert_error, nothing_left_behind
from tests.support.product import eventually
from tests.support.services.redis import Redis
from tests.support.wire import Client, Server, request

BURST = 5


@pytest.fixture
def slow(settings: Any) -> None:
    """Sets a burst of 5, and a rate so low that nothing is refilled during a test."""
    settings.RATE_LIMIT, settings.RATE_LIMIT_BURST = 0.001, BURST


@pytest.fixture
def limited(slow: None, ours: Tenant, theirs: Tenant) -> Tenant:
    """Ours with a full bucket, and a client whose middleware was loaded under these settings."""
    ours.chat()
    ours.api = theirs.api = APIClient(raise_request_exception=False)
    for tenant in (ours, theirs):
        rate_limit.fill(tenant.token)
    return ours


def spend(tenant: Tenant, times: int = BURST) -> HttpResponse:
    for _ in range(times):
        answer = tenant.api.get(tenant.path)
        assert answer.status_code == 200
    return answer


def test_the_burst_passes_and_what_is_beyond_it_is_told_when_to_come_back(limited: Tenant) -> None:
    assert [spend(limited, 1).headers["RateLimit"].split(";")[1] for _ in range(BURST)] == [
        f"r={left}" for left in (4, 3, 2, 1, 0)
    ]

    with nothing_left_behind():
        refused = limited.api.post(f"{limited.path}/chats", {"title": "x"}, format="json")

    assert_error(refused, 429, "rate_limited")
    assert refused.headers["RateLimit-Policy"] == f'"application";q={BURST};w=5000'
    full_in = re.fullmatch(r'"application";r=0;t=(\d+)', refused.headers["RateLimit"])
    # At most a minute has passed, however slow the machine is.
    assert full_in
    assert 4_940 <= int(full_in[1]) <= 5_000
    assert 940 <= int(refused.headers["Retry-After"]) <= 1_000
    assert refused.headers["Cache-Control"] == "no-cache"
    assert refused.headers["X-Content-Type-Options"] == "nosniff"


def test_requests_for_events_are_not_limited_by_rate(limited: Tenant) -> None:
    spend(limited)

    for path in ("/events", "/events/", "/chats/1/events", "/chats/1/events/"):
        answer = limited.api.get(f"{limited.path}{path}")
        assert (answer.status_code, "RateLimit" in answer.headers) == (200, False), path
    for path in ("/eventsx", "/events/x", "/chats/events", "/chats/1/events/x", "/"):
        assert_error(limited.api.get(f"{limited.path}{path}"), 429, "rate_limited")
    assert_error(limited.api.post(f"{limited.path}/tickets", {}, format="json"), 429, "rate_limited")


def test_of_twenty_clients_at_once_exactly_the_burst_passes(limited: Tenant) -> None:
    seen: Counter[int] = Counter()
    clients = [APIClient() for _ in range(20)]

    def ask(client: int) -> None:
        for _ in range(3):
            seen[clients[client].get(limited.path).status_code] += 1

    in_threads(ask, range(20))

    assert seen == {200: BURST, 429: 60 - BURST}


def passes(tenant: Tenant) -> bool:
    return rate_limit.take(tenant.token).passed


def pass_time(tenant: Tenant, seconds: float) -> None:
    """Simulates that seconds have passed. Tests cannot move the clock of Redis, so this moves the bucket."""
    cache, key = get_redis_connection("default"), f"ratelimit:{tenant.token}"
    cache.set(key, int(cache.get(key)) - round(seconds * 1e6), keepttl=True)


def test_requests_come_back_at_the_rate_and_no_more_than_the_burst(limited: Tenant) -> None:
    # Given an empty bucket that regains one request per 1,000 s,
    spend(limited)

    # then none passes earlier, one passes then, and one after each further interval,
    pass_time(limited, 500)
    assert not passes(limited)
    pass_time(limited, 550)
    assert [passes(limited) for _ in range(2)] == [True, False]
    pass_time(limited, 2_000)
    assert [passes(limited) for _ in range(3)] == [True, True, False]
    # and after any pause no more than the burst.
    pass_time(limited, 100_000)
    assert [passes(limited) for _ in range(BURST + 1)] == [True] * BURST + [False]


def test_a_bucket_is_remembered_until_it_is_full_and_no_longer(limited: Tenant) -> None:
    spend(limited, 2)

    assert 1_900 < get_redis_connection("default").ttl(f"ratelimit:{limited.token}") <= 2_000


def test_who_waits_as_long_as_it_was_told_passes(limited: Tenant) -> None:
    spend(limited)
    refused = limited.api.get(limited.path)
    assert refused.status_code == 429

    pass_time(limited, int(refused.headers["Retry-After"]))

    assert [limited.api.get(limited.path).status_code for _ in range(2)] == [200, 429]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "{app}"),
        ("GET", "{app}/"),
        ("HEAD", "{app}"),
        ("PATCH", "{app}"),
        ("GET", "{app}/chats"),
        ("POST", "{app}/chats"),
        ("GET", "{app}/chats/1/messages?limit=1"),
        ("POST", "{app}/chats/1/messages"),
        ("PATCH", "{app}/chats/1/messages/1"),
        ("GET", "{app}/nowhere"),
        ("GET", "/search/x?application={token}"),
        ("GET", "/search/x?chat=1&application={token}"),
        ("GET", "/search/x?application=%{first:x}{rest}"),
    ],
)
def test_each_route_of_an_application_counts(limited: Tenant, method: str, path: str) -> None:
    spend(limited)
    token = limited.token
    path = path.format(app=limited.path, token=token, first=ord(token[0]), rest=token[1:])

    answer = limited.api.generic(method, path, b'{"title": "x", "body": "x", "name": "x"}', "application/json")

    assert answer.status_code == 429
    assert (answer.content == b"") == (method == "HEAD")


def test_others_and_what_crosses_applications_go_on(limited: Tenant, theirs: Tenant) -> None:
    theirs.api = limited.api
    spend(limited)
    assert limited.api.get(limited.path).status_code == 429

    for path in (theirs.path, "/applications", "/search/x", "/health/live", "/metrics"):
        answer = limited.api.get(path)
        assert answer.status_code == 200, path
        assert ("RateLimit" in answer.headers) == (path == theirs.path)
    assert limited.api.post("/applications", {"name": "x"}, format="json").status_code == 201
    for nobody in ("g" * 32, limited.token.upper(), f"{limited.token}x"):
        answer = limited.api.get("/search/x", {"application": nobody})
        assert (answer.status_code, "RateLimit" in answer.headers) == (404, False)
    assert limited.api.get(f"/applications/{UNKNOWN_TOKEN}").status_code == 404
    assert_error(limited.api.get("/search/x?" + "a=1&" * 1001 + f"application={limited.token}"), 400, "parse_error")


def test_a_refused_request_does_not_use_its_key_up(limited: Tenant) -> None:
    spend(limited)
    send = {"path": f"{limited.path}/chats", "data": {"title": "x"}, "headers": {"Idempotency-Key": "k"}}
    assert limited.api.post(**send, format="json").status_code == 429

    rate_limit.fill(limited.token)

    created = limited.api.post(**send, format="json")
    assert (created.status_code, created.json()["number"]) == (201, 2)
    assert "Idempotent-Replayed" not in created.headers


def test_without_a_limit_a_request_pays_nothing(ours: Tenant) -> None:
    api = APIClient()
    api.get(ours.path)

    with commands() as sent:
        answer = api.get(ours.path)

    assert "RateLimit" not in answer.headers
    assert sent == ["HMGET"]
    assert not any("RateLimit" in type(layer).__name__ for layer in api.handler._view_middleware or [])
    assert [key for key in caches["default"].client.get_client().keys("*") if b"ratelimit" in key] == []


def test_while_the_cache_is_away_all_requests_pass_and_none_but_the_first_waits_for_it(
    redis_server: RealRedis, ours: Tenant, tmp_path: Path
) -> None:
    cache = Redis(tmp_path / "cache")
    cache.start()
    url = f"redis://127.0.0.1:{cache.port}/0"
    server = Server(tmp_path / "log", CACHE_URL=url, RATE_LIMIT="0.001", RATE_LIMIT_BURST=str(BURST))

    def ask() -> int:
        with Client(server.port) as client:
            return client.ask(request("GET", ours.path)).status

    try:
        assert [ask() for _ in range(BURST + 1)] == [200] * BURST + [429]

        # Each process times out once on a cache that hangs,
        cache.process.send_signal(signal.SIGSTOP)
        began = time.monotonic()
        assert {ask() for _ in range(20)} == {200}
        took = time.monotonic() - began
        waited = server.log.read_text().count("no rate limit for 5 s, because the cache is down: ")
        assert 1 <= waited <= len(server.workers()) * (1 + took / rate_limit.COOLDOWN)
        # and then the cache is gone.
        cache.kill()
        assert {ask() for _ in range(20)} == {200}

        cache.start()
        eventually(lambda: ask() == 429)
    finally:
        server.stop()
        cache.kill()


@pytest.fixture
def server(redis_server: RealRedis, ours: Tenant, tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path / "log", RATE_LIMIT="0.001", RATE_LIMIT_BURST=str(BURST))
    yield server
    server.stop()


def test_all_web_processes_count_together_and_a_refused_head_leaves_the_connection_in_step(
    server: Server, ours: Tenant
) -> None:
    seen: Counter[int] = Counter()
    for _ in range(2 * BURST):
        with Client(server.port) as client:
            seen[client.ask(request("GET", ours.path)).status] += 1
    assert seen == {200: BURST, 429: BURST}

    with Client(server.port) as client:
        head = client.ask(request("HEAD", ours.path), method="HEAD")
        assert (head.status, head.content) == (429, b"")
        assert client.ask(request("GET", "/health/live")).status == 200

        # So does a batch that is rejected unread.
        batch = request("POST", f"{ours.path}/chats/1/messages", json.dumps([{"body": "x" * 1000}] * 500).encode())
        for _ in range(2):
            refused = client.ask(batch)
            assert_error(refused, 429, "rate_limited")
            assert refused.headers["Connection"] == "keep-alive"


def told(token: str, *options: str) -> str:
    output = StringIO()
    call_command("rate_limit", token, *options, stdout=output)
    return output.getvalue()


def test_somebody_can_look_what_is_left_and_let_an_application_begin_anew(limited: Tenant) -> None:
    assert told(limited.token) == "5 of 5 requests are left; 0.001 come back each second.\n"
    spend(limited)

    assert told(limited.token).startswith("0 of 5 requests are left, the next one in ")
    assert limited.api.get(limited.path).status_code == 429

    assert told(limited.token, "--reset").startswith("5 of 5 requests are left;")
    assert limited.api.get(limited.path).status_code == 200


def test_the_command_tells_what_is_wrong(limited: Tenant, settings: Any) -> None:
    with pytest.raises(CommandError, match="not a token"):
        told("x")
    settings.RATE_LIMIT = 0
    with pytest.raises(CommandError, match="RATE_LIMIT is not set"):
        told(limited.token)
