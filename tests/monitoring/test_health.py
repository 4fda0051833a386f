"""GET /health/ready: each dependency's state and reason, without delay. Only the write log decides the status."""

from __future__ import annotations

import signal
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.db import OperationalError
from rest_framework.test import APIClient

from chatsystem.monitoring import health
from chatsystem.writelog import live_stats, stats
from tests.support.harness import RealRedis, Tenant, forget_redis

ALL_OK = dict.fromkeys(("state", "database", "search", "workers", "live"), "ok")

#: Seconds that readiness gives a dependency in the product.
GIVEN = 2.0
#: Seconds within which readiness answers on a busy machine.
AT_ONCE = 15 * GIVEN
#: Seconds for which a dependency hangs. A probe without a deadline would wait that long.
SILENT = 2 * AT_ONCE


def readiness(api: APIClient) -> tuple[int, str, dict[str, str]]:
    """Returns status code, status, and the dependencies that are not ok. Fails if it takes long."""
    began = time.monotonic()
    response = api.get("/health/ready")
    assert time.monotonic() - began < AT_ONCE
    assert ("Retry-After" in response.headers) == (response.status_code == 503)
    told = response.json()
    assert told["dependencies"].keys() == ALL_OK.keys()
    return response.status_code, told["status"], dict(told["dependencies"].items() - ALL_OK.items())


@pytest.fixture
def working(state: object) -> None:
    """Simulates workers and a live process that have just reported."""
    stats.beat_heart()
    live_stats.report("a process", live_stats.Streams(0, 0), {})


@pytest.fixture
def as_in_the_product(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where something is silent. Elsewhere readiness waits for longer (patient_probes)."""
    monkeypatch.setattr(health, "PATIENCE", GIVEN)


@pytest.fixture
def silent(as_in_the_product: None) -> Iterator[str]:
    """The address of a server that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"127.0.0.1:{listener.getsockname()[1]}"


def test_with_all_of_it_there_it_is_ok(api: APIClient, working: None) -> None:
    assert readiness(api) == (200, "ok", {})


def test_search_that_is_silent_does_not_take_posting_out_of_the_load_balancer(
    ours: Tenant, working: None, silent: str, settings: Any
) -> None:
    pytest.importorskip("elasticsearch")
    settings.ELASTICSEARCH_URL = f"http://{silent}"
    settings.ELASTICSEARCH_TIMEOUT = SILENT
    settings.SEARCH_BACKEND = "search.backends.elasticsearch.ElasticsearchBackend"

    assert readiness(ours.api) == (200, "degraded", {"search": "down: TimeoutError"})

    assert ours.chat()["number"] == 1


def test_nor_does_search_that_is_broken(ours: Tenant, working: None, settings: Any, tmp_path: Any) -> None:
    settings.SEARCH_INDEX_PATH = tmp_path / "index"
    settings.SEARCH_INDEX_PATH.write_text("no database")

    status, word, faults = readiness(ours.api)

    assert (status, word, faults.keys()) == (200, "degraded", {"search"})
    assert faults["search"].startswith("down: SearchUnavailable")
    assert ours.chat()["number"] == 1


def test_without_workers_or_the_database_it_is_degraded(ours: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*args: object, **kwargs: object) -> Any:
        raise OperationalError(2003, "Can't connect to MySQL server on 'a.secret.address' as chat:password")

    with monkeypatch.context() as patch:
        patch.setattr("django.db.backends.utils.CursorWrapper.execute", away)
        told = readiness(ours.api)

    faults = {
        "database": "down: OperationalError 2003",
        "workers": "down: WorkersSilent",
        "live": "down: LiveSilent",
    }
    assert told == (200, "degraded", faults)


@pytest.mark.parametrize(
    ("hit", "why"),
    [
        (lambda server: server.kill(), "down: LogUnavailable (ConnectionError)"),
        (lambda server: server.process.send_signal(signal.SIGSTOP), "down: TimeoutError"),
    ],
    ids=["killed", "silent"],
)
def test_without_the_state_redis_it_is_unavailable_and_the_others_are_still_told(
    api: APIClient,
    working: None,
    as_in_the_product: None,
    redis_server: RealRedis,
    hit: Callable[[RealRedis], None],
    why: str,
    settings: Any,
) -> None:
    settings.REDIS_TIMEOUT = SILENT
    forget_redis()
    hit(redis_server)
    try:
        status, word, faults = readiness(api)
    finally:
        redis_server.kill()
        redis_server.start()
        forget_redis()

    assert (status, word, faults["state"]) == (503, "unavailable", why)
    assert faults.keys() == {"state", "workers", "live"}


def test_a_state_redis_that_takes_no_writes_says_which_way(api: APIClient, state: Any) -> None:
    state.config_set("maxmemory", "1")
    try:
        status, _, faults = readiness(api)
    finally:
        state.config_set("maxmemory", "0")

    assert (status, faults["state"]) == (503, "down: LogUnavailable (OutOfMemoryError)")


def test_no_address_and_no_password_is_told(api: APIClient, settings: Any) -> None:
    settings.REDIS_URL = "redis://somebody:a-secret@localhost:1/0"
    forget_redis()
    try:
        told = api.get("/health/ready")
    finally:
        forget_redis()

    assert told.status_code == 503
    assert not [word for word in ("somebody", "a-secret", "localhost") if word in told.content.decode()]
