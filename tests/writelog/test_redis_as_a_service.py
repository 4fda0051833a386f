"""The state Redis as a service of its own: TLS, passwords, ACLs, and unsafe configurations."""

from __future__ import annotations

import os
import re
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import redis
import trustme
from django.conf import settings
from django.core.checks import run_checks
from rest_framework.test import APIClient

from chatsystem.writelog import live_stats, stats
from chatsystem.writelog.redis_client import client
from tests.support.harness import RealRedis, Tenant, drain_all, forget_redis
from tests.support.product import PATIENCE, eventually
from tests.support.redis_process import connect
from tests.support.redis_servers import Sentinels, Server
from tests.support.services.redis import Redis

W005 = "chatsystem.W005"

PING_ALL = """
import django; django.setup()
from celery import current_app
from django.core.cache import cache
from chatsystem.writelog import stats
stats.probe(range(64))
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
    # Given a state Redis whose configuration can lose data,
    kept = state.config_get(option)[option]
    state.config_set(option, value)
    try:
        # then readiness reports it, while writes are still accepted,
        ready = APIClient().get("/health/ready")
        assert ready.status_code == 200
        assert ready.json()["status"] == "degraded"
        assert f"{option} is {value}" in ready.json()["dependencies"]["state"]

        # and the check at the start of migrate fails.
        check = manage("check", "--database", "default")
        assert check.returncode == 1
        assert f"{option} is {value}" in check.stderr
        assert "appendfsync always" in check.stderr
    finally:
        state.config_set(option, kept)
    assert stats.hazards() == []


@pytest.fixture
def as_user(api: APIClient, state: Any, settings: Any) -> Iterator[Callable[..., None]]:
    """Call it with ACL rules: from then on the product connects as a user with these rules."""
    given = settings.REDIS_URL

    def become(*rules: str) -> None:
        state.execute_command("ACL", "SETUSER", "app", "reset", "on", ">secret-word", "~*", "&*", "+@all", *rules)
        settings.REDIS_URL = given.replace("unix://", "unix://app:secret-word@")
        forget_redis()

    yield become
    forget_redis()
    state.execute_command("ACL", "DELUSER", "app")


@pytest.fixture
def without_config(api: APIClient, tmp_path: Path, settings: Any) -> Iterator[str]:
    """The URL of a Redis without CONFIG, like a managed service."""
    server = Redis(tmp_path, options=["--rename-command", "CONFIG", ""])
    server.start()
    settings.REDIS_URL = url = f"redis://127.0.0.1:{server.port}/0"
    forget_redis()
    stats.beat_heart()
    yield url
    settings.REDIS_URL = ""
    forget_redis()
    server.kill()


def assert_served_and_degraded(api: APIClient, url: str) -> None:
    ours = Tenant.new(api, "ours")
    assert ours.chat()["number"] == 1
    assert ours.get("/chats")["results"][0]["number"] == 1
    ready = api.get("/health/ready")
    assert (ready.status_code, ready.json()["status"]) == (200, "degraded")
    state = ready.json()["dependencies"]["state"]
    assert state.startswith("degraded: may lose what it acknowledged: ")
    assert "CONFIG GET" in state

    # migrate runs this check first.
    check = manage("check", "--database", "default", REDIS_URL=url)
    assert check.returncode == 0, check.stderr
    assert "chatsystem.W004" in check.stderr
    assert "+config|get" in check.stderr
    assert "Traceback" not in check.stderr


def test_without_the_right_to_config_writes_go_on_and_it_is_degraded(
    api: APIClient, as_user: Any, settings: Any
) -> None:
    as_user("-config")
    stats.beat_heart()

    assert_served_and_degraded(api, settings.REDIS_URL)


def test_with_config_renamed_away_writes_go_on_and_it_is_degraded(api: APIClient, without_config: str) -> None:
    assert_served_and_degraded(api, without_config)


def test_without_the_right_to_info_writes_and_reads_go_on_and_it_is_degraded(
    ours: Tenant, as_user: Any, settings: Any
) -> None:
    # Given an application whose Redis was identified by INFO,
    created = ours.chat()

    # when its user loses the right to run INFO,
    as_user("-info")
    stats.beat_heart()

    # then nothing is refused: reads, writes and drains go on with the same numbers,
    assert ours.get("/chats/1") == created
    assert ours.chat()["number"] == 2
    drain_all()
    assert [chat["number"] for chat in ours.get("/chats")["results"]] == [1, 2]
    # and readiness and the check at the start of migrate name the missing right.
    ready = ours.api.get("/health/ready")
    assert (ready.status_code, ready.json()["status"]) == (200, "degraded")
    assert ready.json()["dependencies"]["state"] == (
        "degraded: may lose what it acknowledged: "
        "a restart and a failover are detected by its script cache alone (INFO is refused)"
    )
    [warning] = [message for message in run_checks(tags=["database"], databases=["default"]) if "W" in message.id]
    assert (warning.id, warning.is_serious()) == ("chatsystem.W004", False)
    assert "Grant its user +info" in warning.hint

    # Once the right is granted, the report disappears.
    as_user()
    stats.beat_heart()
    live_stats.report("a process", live_stats.Streams(0, 0), {})
    assert ours.chat()["number"] == 3
    assert ours.api.get("/health/ready").json()["status"] == "ok"


def test_a_service_that_shows_a_part_of_its_configuration_is_asked_no_more_than_that(
    state: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # No available Redis answers like this.
    monkeypatch.setattr(client(0), "config_get", lambda *names: {"appendonly": "yes", "maxmemory-policy": "noeviction"})

    assert stats.hazards() == [("appendfsync cannot be read (CONFIG GET does not return it)", stats.GRANT_CONFIG)]
    assert not stats.is_memory_limited(0)


@pytest.mark.parametrize("right", ["xadd", "evalsha"])
def test_without_a_right_that_writes_need_they_are_503_and_readiness_and_the_check_name_it(
    ours: Tenant, as_user: Any, right: str
) -> None:
    created = ours.chat()
    as_user(f"-{right}")

    for refused in (
        ours.api.post(f"{ours.path}/chats", {"title": "refused"}, format="json"),
        ours.api.patch(f"{ours.path}/chats/1", {"title": "refused"}, format="json"),
        ours.api.post("/applications", {"name": "refused"}, format="json"),
    ):
        assert (refused.status_code, refused.json()["errors"][0]["code"]) == (503, "service_unavailable")
        assert int(refused.headers["Retry-After"]) > 0
    ready = ours.api.get("/health/ready")
    assert (ready.status_code, ready.json()["status"]) == (503, "unavailable")
    why = f"the state Redis's user may not run {right.upper()}: grant it +{right}"
    assert ready.json()["dependencies"]["state"] == f"down: {why}"
    assert "secret-word" not in ready.content.decode()
    [warning] = [message for message in run_checks(tags=["database"], databases=["default"]) if message.id == W005]
    assert not warning.is_serious()
    assert warning.msg == f"The state Redis accepts no write: {why}."

    # Once the right is granted, everything works.
    as_user()
    assert ours.get("/chats/1") == created
    assert ours.chat()["number"] == 2


def test_without_the_right_to_its_keys_writes_are_503_and_readiness_says_so(ours: Tenant, as_user: Any) -> None:
    as_user("resetkeys", "~probe")

    refused = ours.api.post(f"{ours.path}/chats", {"title": "refused"}, format="json")
    ready = ours.api.get("/health/ready")

    assert (refused.status_code, ready.status_code) == (503, 503)
    assert "may not use the keys of the write log: grant it ~{*}:*" in ready.json()["dependencies"]["state"]


def test_a_write_that_redis_took_is_of_unknown_outcome_when_it_may_not_wait_for_replicas(
    ours: Tenant, as_user: Any, settings: Any
) -> None:
    as_user("-wait", "-expire")
    settings.REDIS_REPLICAS = 1

    answer = ours.api.post(f"{ours.path}/chats", {"title": "there"}, format="json")

    assert (answer.status_code, answer.json()["errors"][0]["code"]) == (503, "outcome_unknown")
    # Later commands on the same connection read their own answers.
    settings.REDIS_REPLICAS = 0
    assert ours.get("/chats/1")["title"] == "there"
    assert ours.chat()["number"] == 2


def test_too_few_replicas_for_the_servers_own_rule_is_503(ours: Tenant, state: Any) -> None:
    state.config_set("min-replicas-to-write", 1)
    try:
        answer = ours.api.post(f"{ours.path}/chats", {"title": "refused"}, format="json")
        ready = ours.api.get("/health/ready")
    finally:
        state.config_set("min-replicas-to-write", 0)

    assert (answer.status_code, answer.json()["errors"][0]["code"]) == (503, "service_unavailable")
    assert ready.status_code == 503
    assert ours.chat()["number"] == 1


def test_a_script_of_somebody_else_that_does_not_end_is_503(ours: Tenant, state: Any, redis_server: RealRedis) -> None:
    state.config_set("busy-reply-threshold", 1)
    forever = connect(unix_socket_path=str(redis_server.data_dir.redis_socket), socket_timeout=None)
    running = threading.Thread(target=lambda: suppressed(forever.eval, "while true do end", 0))
    running.start()
    try:
        eventually(lambda: suppressed(state.exists, "key") is None)
        answer = ours.api.post(f"{ours.path}/chats", {"title": "refused"}, format="json")
    finally:
        state.script_kill()
        running.join()
        state.config_set("busy-reply-threshold", 5000)

    assert (answer.status_code, answer.json()["errors"][0]["code"]) == (503, "service_unavailable")
    assert ours.chat()["number"] == 1


def suppressed(call: Callable[..., Any], *arguments: Any) -> Any:
    """Returns the answer; None if Redis refuses."""
    try:
        return call(*arguments)
    except redis.ResponseError:
        return None


def test_a_redis_that_is_not_there_yet_does_not_stop_a_migration(redis_server: RealRedis, tmp_path: Path) -> None:
    check = manage("check", "--database", "default", REDIS_URL=f"unix://{tmp_path}/nothing.sock")

    assert check.returncode == 0
    assert "chatsystem.W002" in check.stderr


def test_state_cache_and_broker_follow_a_sentinel(tmp_path: Path) -> None:
    # Given a primary that wants a password, and sentinels,
    options = ["--requirepass", "a,password", "--masterauth", "a,password"]
    with ExitStack() as running:
        primary = Server(tmp_path / "primary", options=options, password="a,password")
        running.callback(primary.kill)
        replica = Server(tmp_path / "replica", primary, options=options, password="a,password")
        running.callback(replica.kill)
        sentinels = Sentinels(tmp_path / "sentinels", primary)
        running.callback(sentinels.kill)

        # when one URL names the service, then all three clients work with it,
        url = sentinels.url(user=":a%2Cpassword@")
        eventually(lambda: python(PING_ALL, REDIS_URL=url).returncode == 0)
        # also after a failover.
        primary.kill()
        eventually(lambda: python(PING_ALL, REDIS_URL=url).returncode == 0)


def test_state_cache_and_broker_take_a_tls_url_with_a_password(
    tmp_path: Path, tls: tuple[int, Path], password: str
) -> None:
    # Given a Redis behind TLS that wants a password,
    port, authority = tls
    url = f"rediss://:{quote(password)}@localhost:{port}/0?ssl_ca_certs={authority}"

    # when one URL names it, then all three clients work with it,
    run = python(PING_ALL, REDIS_URL=url)
    assert run.returncode == 0, run.stderr
    assert "state, cache and broker answer" in run.stdout

    # and a wrong password is refused and never shown.
    refused = python(PING_ALL, REDIS_URL=url.replace(quote(password), "wrong%2Cstaple;paper"))
    assert refused.returncode != 0
    assert not re.search("wrong|staple|paper", refused.stdout + refused.stderr)


def manage(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return run([sys.executable, "manage.py", *arguments], environment)


def python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return run([sys.executable, "-c", code], {"DJANGO_SETTINGS_MODULE": "chatsystem.settings", **environment})


def run(command: list[str], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    variables = {**os.environ, **environment}
    return subprocess.run(
        command, cwd=settings.BASE_DIR, env=variables, capture_output=True, text=True, timeout=PATIENCE
    )


@pytest.fixture
def password(state: Any) -> Iterator[str]:
    """Sets a password that Redis asks of new connections."""
    # Django-redis would split a URL at the comma, and kombu at the semicolon.
    state.config_set("requirepass", "correct,horse;battery")
    yield "correct,horse;battery"
    state.config_set("requirepass", "")


@pytest.fixture
def tls(redis_server: RealRedis, tmp_path: Path) -> Iterator[tuple[int, Path]]:
    """A TLS port of the test's Redis, and the authority that signed its certificate.

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
    with context.wrap_socket(accepted, server_side=True) as outer, socket.socket(socket.AF_UNIX) as inner:
        inner.connect(str(settings.DATA_DIR.redis_socket))
        threading.Thread(target=_copy, args=(inner, outer), daemon=True).start()
        _copy(outer, inner)


def _copy(source: socket.socket, target: socket.socket) -> None:
    try:
        while received := source.recv(65_536):
            target.sendall(received)
        target.shutdown(socket.SHUT_RDWR)
    except OSError:
        return
