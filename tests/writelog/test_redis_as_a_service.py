"""The state Redis as a service of its own: TLS, passwords, and one that could lose what it acknowledged."""

from __future__ import annotations

import os
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme
from django.conf import settings
from rest_framework.test import APIClient

from chatsystem.writelog import vitals
from tests.bench import RealRedis

PING_ALL = """
import django; django.setup()
from celery import current_app
from django.core.cache import cache
from chatsystem.writelog import vitals
vitals.probe()
cache.set("key", "value"); assert cache.get("key") == "value"
with current_app.connection_for_write() as broker: assert broker.default_channel.client.ping()
print("state, cache and broker answer")
"""


@pytest.mark.parametrize(
    ("option", "value"), [("appendonly", "no"), ("appendfsync", "everysec"), ("maxmemory-policy", "allkeys-lru")]
)
def test_a_redis_that_can_lose_data_is_named_by_readiness_and_by_the_check(
    state: Any, db: None, option: str, value: str
) -> None:
    # Given a state Redis that is configured to forget,
    kept = state.config_get(option)[option]
    state.config_set(option, value)
    try:
        # when it is asked how it is, then readiness names it, and goes on to accept writes,
        ready = APIClient().get("/health/ready")
        assert ready.status_code == 200
        assert ready.json()["status"] == "degraded"
        assert f"{option} is {value}" in ready.json()["dependencies"]["state"]

        # and the check that migrate begins with refuses it.
        check = manage("check", "--database", "default")
        assert check.returncode == 1
        assert f"{option} is {value}" in check.stderr
        assert "appendfsync always" in check.stderr
    finally:
        state.config_set(option, kept)
    assert vitals.hazards() == []


def test_a_redis_that_is_not_there_yet_does_not_stop_a_migration(redis_server: RealRedis, tmp_path: Path) -> None:
    check = manage("check", "--database", "default", REDIS_URL=f"unix://{tmp_path}/nothing.sock")

    assert check.returncode == 0
    assert "chatsystem.W002" in check.stderr


def test_state_cache_and_broker_take_a_tls_url_with_a_password(
    tmp_path: Path, tls: tuple[int, Path], password: str
) -> None:
    # Given a Redis behind TLS that wants a password,
    port, authority = tls
    url = f"rediss://:{password}@localhost:{port}/0?ssl_ca_certs={authority}"

    # when it is named by one URL, then all three work with it,
    run = python(PING_ALL, REDIS_URL=url)
    assert run.returncode == 0, run.stderr
    assert "state, cache and broker answer" in run.stdout

    # and a wrong password is not taken.
    assert python(PING_ALL, REDIS_URL=url.replace(password, "wrong")).returncode != 0


def manage(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return run([sys.executable, "manage.py", *arguments], environment)


def python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return run([sys.executable, "-c", code], {"DJANGO_SETTINGS_MODULE": "chatsystem.settings", **environment})


def run(command: list[str], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    variables = {**os.environ, **environment}
    return subprocess.run(command, cwd=settings.BASE_DIR, env=variables, capture_output=True, text=True, timeout=60)


@pytest.fixture
def password(state: Any) -> Iterator[str]:
    """The test's Redis asks newcomers for a password."""
    state.config_set("requirepass", "correct-horse")
    yield "correct-horse"
    state.config_set("requirepass", "")


@pytest.fixture
def tls(redis_server: RealRedis, tmp_path: Path) -> Iterator[tuple[int, Path]]:
    """A port that speaks TLS for the test's Redis, and the authority that signed its certificate.

    A proxy, since not every redis-server is built with TLS; what is tested is on the clients' side.
    """
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "authority.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    with socket.create_server(("localhost", 0)) as server:
        threading.Thread(target=_serve, args=(server, context), daemon=True).start()
        yield server.getsockname()[1], tmp_path / "authority.pem"


def _serve(server: socket.socket, context: ssl.SSLContext) -> None:
    while True:
        try:
            accepted, _ = server.accept()
        except OSError:
            return
        threading.Thread(target=_connect, args=(accepted, context), daemon=True).start()


def _connect(accepted: socket.socket, context: ssl.SSLContext) -> None:
    with context.wrap_socket(accepted, server_side=True) as client, socket.socket(socket.AF_UNIX) as redis:
        redis.connect(str(settings.DATA_DIR.redis_socket))
        threading.Thread(target=_copy, args=(redis, client), daemon=True).start()
        _copy(client, redis)


def _copy(source: socket.socket, target: socket.socket) -> None:
    try:
        while received := source.recv(65_536):
            target.sendall(received)
        target.shutdown(socket.SHUT_RDWR)
    except OSError:
        return
