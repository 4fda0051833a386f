"""RATE_LIMIT: each application's own, and nobody's while it is not set."""

from __future__ import annotations

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
from rest_framework.test import APIClient

from chatsystem.api import ratelimit
from tests.api.bench import UNKNOWN_TOKEN, assert_error, nothing_left_behind
from tests.api.test_cost import commands
from tests.api.wire import Client, Server, request
from tests.bench import RealRedis, Tenant, in_threads
from tests.embedded.product import eventually
from tests.services.redis import Redis

BURST = 5


@pytest.fixture
def slow(settings: Any) -> None:
    """A burst of 5, and nothing comes back while a test runs."""
    settings.RATE_LIMIT, settings.RATE_LIMIT_BURST = 0.001, BURST


@pytest.fixture
def limited(slow: None, ours: Tenant, theirs: Tenant) -> Tenant:
    """Ours, with all of its burst, asked by a client that has read the settings."""
    ours.chat()
    ours.api = theirs.api = APIClient(raise_request_exception=False)
    for tenant in (ours, theirs):
        ratelimit.fill(tenant.token)
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
    assert refused.headers["RateLimit"] == '"application";r=0;t=5000'
    assert 990 <= int(refused.headers["Retry-After"]) <= 1000
    assert refused.headers["Cache-Control"] == "no-cache"
    assert refused.headers["X-Content-Type-Options"] == "nosniff"


def test_of_twenty_clients_at_once_exactly_the_burst_passes(limited: Tenant) -> None:
    seen: Counter[int] = Counter()
    clients = [APIClient() for _ in range(20)]

    def ask(client: int) -> None:
        for _ in range(3):
            seen[clients[client].get(limited.path).status_code] += 1

    in_threads(ask, range(20))

    assert seen == {200: BURST, 429: 60 - BURST}


def test_requests_come_back_at_the_rate_and_no_more_than_the_burst(settings: Any, ours: Tenant) -> None:
    settings.RATE_LIMIT, settings.RATE_LIMIT_BURST = 20, 3
    for _ in range(3):
        assert ratelimit.take(ours.token).passed
    began = time.monotonic()
    passed = 0

    while (seconds := time.monotonic() - began) < 1.5:
        passed += ratelimit.take(ours.token).passed

    # One comes back each 50 ms; a slow machine asks less often, and gets none for the time that it missed.
    assert passed <= seconds * 20 + 1
    assert passed >= 5
    time.sleep(0.5)
    assert [ratelimit.take(ours.token).passed for _ in range(4)] == [True, True, True, False]


def test_who_waits_as_long_as_it_was_told_passes(settings: Any, ours: Tenant) -> None:
    settings.RATE_LIMIT, settings.RATE_LIMIT_BURST = 2, 1
    api = APIClient()
    assert api.get(ours.path).status_code == 200

    refused = api.get(ours.path)
    assert refused.status_code == 429
    time.sleep(int(refused.headers["Retry-After"]))

    assert api.get(ours.path).status_code == 200


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
    assert limited.api.get(f"/applications/{UNKNOWN_TOKEN}").status_code == 404
    assert_error(limited.api.get("/search/x?" + "a=1&" * 1001 + f"application={limited.token}"), 400, "parse_error")


def test_a_refused_request_does_not_use_its_key_up(limited: Tenant) -> None:
    spend(limited)
    send = {"path": f"{limited.path}/chats", "data": {"title": "x"}, "headers": {"Idempotency-Key": "k"}}
    assert limited.api.post(**send, format="json").status_code == 429

    ratelimit.fill(limited.token)

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

        # Away without a word, which each process finds out once,
        cache.process.send_signal(signal.SIGSTOP)
        began = time.monotonic()
        assert {ask() for _ in range(20)} == {200}
        assert time.monotonic() - began < 2 * 2 + ratelimit.COOLDOWN
        # and gone.
        cache.kill()
        assert {ask() for _ in range(20)} == {200}

        cache.start()
        eventually(lambda: ask() == 429)
        assert "no rate limit for 5 s, the cache is away: " in server.log.read_text()
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
