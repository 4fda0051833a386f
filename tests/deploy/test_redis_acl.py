"""The state Redis as in docker-compose.yml: its user may run the commands of the code, and no others."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import redis
from celery import Celery
from rest_framework.test import APIClient

from chatsystem.embedded import redis_server
from chatsystem.writelog import dead_events, live_stats, ownership, rollback_guard, stats
from chatsystem.writelog.keys import partition_of
from chatsystem.writelog.redis_client import client
from messages_app.models import Message
from tests.support.harness import Tenant, drain_all, forget_redis
from tests.support.ports import free_port
from tests.support.redis_process import RedisProcess, connect
from tests.support.redis_servers import briefly

DEPLOY = Path(__file__).resolve().parent.parent.parent / "deploy" / "redis"
PASSWORD = "correct/horse&battery staple"


class DeployedRedis(RedisProcess):
    """Runs start.sh on the files of deploy/redis, with /etc/redis, /run/secrets, /tmp and /data in its own folder."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.port = folder, free_port()
        (folder / "redis.conf").write_text(
            self._moved(f"{name}.conf") + f"\nbind 127.0.0.1\nport {self.port}\nset-proc-title no\n"
        )
        (folder / "users.acl").write_text(self._moved(f"{name}.acl"))
        (folder / "tmp").mkdir()
        (folder / "start.sh").write_text(self._moved("start.sh"))
        (folder / "REDIS_PASSWORD").write_text(f"{PASSWORD}\n")
        path = os.pathsep.join([str(Path(redis_server.find()).parent), os.environ["PATH"]])
        super().__init__(["sh", folder / "start.sh"], self.as_user(PASSWORD), {**os.environ, "PATH": path})
        self.start()

    def _moved(self, name: str) -> str:
        here = {
            "/etc/redis": self.folder,
            "/run/secrets": self.folder,
            "/tmp": self.folder / "tmp",
            "/data": self.folder,
        }
        return re.sub("|".join(here), lambda path: str(here[path[0]]), (DEPLOY / name).read_text())

    def url(self, database: int) -> str:
        return f"redis://chatsystem:{quote(PASSWORD, safe='')}@127.0.0.1:{self.port}/{database}"

    def as_user(self, password: str) -> Any:
        return connect(port=self.port, username="chatsystem", password=password, decode_responses=True)

    def used(self) -> set[str]:
        """Returns the commands that Redis has run, including those in scripts. It must have refused none."""
        statistics = self.client.info("commandstats")
        refused = {name for name, numbers in statistics.items() if numbers["rejected_calls"]}
        # The ping comes from `_answers`, while Redis was loading its log.
        assert refused <= {"cmdstat_client|setinfo", "cmdstat_client", "cmdstat_ping"}
        return {name.removeprefix("cmdstat_") for name, numbers in statistics.items() if numbers["calls"]}


@pytest.fixture
def state(tmp_path: Path, settings: Any, transactional_db: None) -> Iterator[DeployedRedis]:
    """The state Redis, with the application as its user."""
    server = DeployedRedis(tmp_path, "state")
    settings.REDIS_URL = server.url(0)
    forget_redis()
    yield server
    forget_redis()
    server.kill()


def test_the_command_line_client_is_the_products_user(tmp_path: Path) -> None:
    client = tmp_path / "redis-cli"
    client.write_text('#!/bin/sh\necho "$REDISCLI_AUTH" "$@"\n')
    client.chmod(0o755)
    (tmp_path / "REDIS_PASSWORD").write_text(f"{PASSWORD}\n")
    (tmp_path / "cli.sh").write_text((DEPLOY / "cli.sh").read_text().replace("/run/secrets", str(tmp_path)))

    environment = {"PATH": os.pathsep.join([str(tmp_path), os.environ["PATH"]])}
    run = subprocess.run(
        ["sh", tmp_path / "cli.sh", "info", "memory"], env=environment, capture_output=True, text=True, check=True
    )

    assert run.stdout == f"{PASSWORD} --user chatsystem info memory\n"


def allowed() -> set[str]:
    [rules] = re.findall(r"^user chatsystem .*$", (DEPLOY / "state.acl").read_text(), re.MULTILINE)
    assert " -@all " in rules
    return set(re.findall(r" \+(\S+)", rules))


def test_the_user_may_run_exactly_what_the_code_runs(state: DeployedRedis, redis_server: object, settings: Any) -> None:
    # Given writes of each kind that are drained, read, refused and withdrawn,
    api = APIClient()
    ours = Tenant.new(api, "ours")
    ours.chat()
    ours.message(1, "one", **{"Idempotency-Key": "k"})
    assert ours.message(1, "one", **{"Idempotency-Key": "k"})["number"] == 1
    ours.batch(1, ["two", "three"])
    assert api.patch(ours.path, {"name": "still ours"}, format="json").status_code == 200
    assert api.patch(f"{ours.path}/chats/1/messages/2", {"body": "zwei"}, format="json").status_code == 200
    assert [m["body"] for m in ours.get("/chats/1/messages")["results"]] == ["one", "zwei", "three"]
    dead_events.withdraw(partition_of(ours.token), f"{ours.token}/1/3", 0, "update", None)
    assert drain_all() > 0
    stats.count_drifts(partition_of(ours.token), 1)
    assert 'chatsystem_up{dependency="state"} 1.0' in api.get("/metrics").content.decode()
    assert ours.get("/chats/1/messages/2")["body"] == "zwei"
    assert api.get("/applications").status_code == 200

    # and the heartbeats of workers, and readiness,
    stats.beat_heart()
    live_stats.report("a process", live_stats.Streams(0, 0), {live_stats.RESETS: 1})
    assert api.get("/health/ready").json()["dependencies"] == dict.fromkeys(
        ("state", "database", "search", "workers", "live"), "ok"
    )
    client(0).ping()
    # and a write that waits for a replica that does not exist,
    settings.REDIS_REPLICAS = 1
    with briefly(settings):
        assert api.post(f"{ours.path}/chats", {"title": "a chat"}, format="json").status_code == 503
    settings.REDIS_REPLICAS = 0
    # and a database that was found too old, and accepted,
    rollback_guard.halt(partition_of(ours.token))
    rollback_guard.accept_database(partition_of(ours.token), drained_through=0)
    rollback_guard.resume(partition_of(ours.token))
    ownership.set_owner()
    before = state.used()

    # when Redis is restarted, and numbers have to be seeded,
    state.restart()
    assert ours.message(1, "four")["number"] == 4
    drain_all()

    # then its user has used exactly its rights, and nothing was refused.
    assert list(Message.objects.order_by("number").values_list("body", flat=True)) == ["one", "zwei", "three", "four"]
    assert before | state.used() == allowed() | {"hello"}


@pytest.mark.parametrize(
    "command",
    [
        "FLUSHALL",
        "FLUSHDB",
        "CONFIG SET appendonly no",
        "KEYS *",
        "SHUTDOWN NOSAVE",
        "ACL LIST",
        "REPLICAOF 127.0.0.1 1",
        "MODULE LIST",
        "MONITOR",
        "EVAL return 0",
        "GET elsewhere",
        "PUBLISH {1}:log x",
    ],
)
def test_the_user_is_refused_the_rest(state: DeployedRedis, command: str) -> None:
    with pytest.raises(redis.exceptions.NoPermissionError):
        state.client.execute_command(*command.split())


def test_nobody_else_is_let_in(state: DeployedRedis) -> None:
    with pytest.raises(redis.AuthenticationError):
        state.as_user(password="another").ping()
    with pytest.raises(redis.AuthenticationError):
        connect(port=state.port).ping()


def test_acknowledged_writes_are_on_disk_and_never_evicted(state: DeployedRedis) -> None:
    information = state.client.info()

    assert information["aof_enabled"] == 1
    assert information["maxmemory_policy"] == "noeviction"
    assert "\nappendfsync always\n" in (DEPLOY / "state.conf").read_text()


def test_undrained_writes_survive_a_kill(state: DeployedRedis, redis_server: object) -> None:
    """Redis replays its log as the user `default`, and silently skips commands in MULTI that it may not run."""
    ours = Tenant.new(APIClient(), "ours")
    ours.chat()
    ours.message(1, "not stored")

    state.restart()

    assert ours.get("/chats/1/messages/1")["body"] == "not stored"
    assert drain_all() == 3


def test_the_cache_serves_celery_and_keeps_its_queues(tmp_path: Path) -> None:
    server = DeployedRedis(tmp_path, "cache")
    try:
        app = Celery(broker=server.url(1), set_as_current=False)
        with app.connection_for_write() as connection, connection.SimpleQueue("celery") as queue:
            queue.put({"hint": 1})
            assert queue.get(timeout=60).payload == {"hint": 1}
        assert server.client.info()["maxmemory_policy"] == "volatile-lru"
        with pytest.raises(redis.exceptions.NoPermissionError):
            server.client.flushall()
    finally:
        server.kill()
