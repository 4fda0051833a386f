"""The state Redis as docker-compose.yml runs it: its user may do what the code does, and nothing else."""

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
from chatsystem.writelog import log, vitals
from chatsystem.writelog.keys import partition_of
from chatsystem.writelog.state import client
from messages_app.models import Message
from tests.bench import Tenant, drain_all, forget_redis
from tests.embedded.product import eventually, free_port

DEPLOY = Path(__file__).resolve().parent.parent.parent / "deploy" / "redis"
PASSWORD = "correct/horse&battery staple"


class DeployedRedis:
    """start.sh on the files of deploy/redis, with /etc/redis, /tmp and /data in a folder of its own."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.port = folder, free_port()
        (folder / "redis.conf").write_text(
            self._moved(f"{name}.conf") + f"\nbind 127.0.0.1\nport {self.port}\nset-proc-title no\n"
        )
        (folder / "users.acl").write_text(self._moved(f"{name}.acl"))
        (folder / "tmp").mkdir()
        (folder / "start.sh").write_text(self._moved("start.sh"))
        self.start()

    def _moved(self, name: str) -> str:
        here = {"/etc/redis": self.folder, "/tmp": self.folder / "tmp", "/data": self.folder}
        return re.sub("|".join(here), lambda path: str(here[path[0]]), (DEPLOY / name).read_text())

    def start(self) -> None:
        path = os.pathsep.join([str(Path(redis_server.find()).parent), os.environ["PATH"]])
        self.process = subprocess.Popen(
            ["sh", self.folder / "start.sh"],
            env={**os.environ, "PATH": path, "REDISCLI_AUTH": PASSWORD},
            stdout=subprocess.DEVNULL,
        )
        try:
            eventually(self._answers, within=10)
        except BaseException:
            self.kill()
            raise

    def _answers(self) -> bool:
        assert self.process.poll() is None, "it ended at its start"
        try:
            return bool(self.client().ping())
        except redis.ConnectionError:
            return False

    def restart(self) -> None:
        self.kill()
        self.start()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def url(self, database: int) -> str:
        return f"redis://chatsystem:{quote(PASSWORD, safe='')}@127.0.0.1:{self.port}/{database}"

    def client(self, password: str = PASSWORD) -> Any:
        return redis.Redis(port=self.port, username="chatsystem", password=password, decode_responses=True)

    def used(self) -> set[str]:
        """The commands that this process has run, those within scripts too. It has refused none that anyone misses."""
        statistics = self.client().info("commandstats")
        refused = {name for name, numbers in statistics.items() if numbers["rejected_calls"]}
        # The ping is _answers' own, and came while Redis still read its log.
        assert refused <= {"cmdstat_client|setinfo", "cmdstat_client", "cmdstat_ping"}
        return {name.removeprefix("cmdstat_") for name, numbers in statistics.items() if numbers["calls"]}


@pytest.fixture
def state(tmp_path: Path, settings: Any, transactional_db: None) -> Iterator[DeployedRedis]:
    """The application's state Redis, as its user."""
    server = DeployedRedis(tmp_path, "state")
    settings.REDIS_URL = server.url(0)
    forget_redis()
    yield server
    forget_redis()
    server.kill()


def allowed() -> set[str]:
    [rules] = re.findall(r"^user chatsystem .*$", (DEPLOY / "state.acl").read_text(), re.MULTILINE)
    assert " -@all " in rules
    return set(re.findall(r" \+(\S+)", rules))


def test_the_user_may_run_exactly_what_the_code_runs(state: DeployedRedis, redis_server: object, settings: Any) -> None:
    # Given writes of each kind, drained, read, refused and withdrawn,
    api = APIClient()
    ours = Tenant.new(api, "ours")
    ours.chat()
    ours.message(1, "one", **{"Idempotency-Key": "k"})
    assert ours.message(1, "one", **{"Idempotency-Key": "k"})["number"] == 1
    ours.batch(1, ["two", "three"])
    assert api.patch(ours.path, {"name": "still ours"}, format="json").status_code == 200
    assert api.patch(f"{ours.path}/chats/1/messages/2", {"body": "zwei"}, format="json").status_code == 200
    assert [m["body"] for m in ours.get("/chats/1/messages")["results"]] == ["one", "zwei", "three"]
    log.withdraw(partition_of(ours.token), f"{ours.token}/1/3", 0, "update", None)
    assert drain_all() > 0
    vitals.count_drifts(partition_of(ours.token), 1)
    assert 'chatsystem_up{dependency="state"} 1.0' in api.get("/metrics").content.decode()
    assert ours.get("/chats/1/messages/2")["body"] == "zwei"
    assert api.get("/applications").status_code == 200

    # and the signs of life of workers and readiness,
    vitals.beat_heart()
    assert api.get("/health/ready").json()["dependencies"] == dict.fromkeys(
        ("state", "database", "search", "workers"), "ok"
    )
    client().ping()
    # and a database that was found too old, and accepted,
    log.halt(partition_of(ours.token))
    log.accept(partition_of(ours.token), drained_through=0)
    log.resume(partition_of(ours.token))
    # and a write that waits for a replica, of which there is none,
    settings.REDIS_REPLICAS, settings.REDIS_TIMEOUT = 1, 0.1
    assert api.post(f"{ours.path}/chats", {"title": "a chat"}, format="json").status_code == 503
    settings.REDIS_REPLICAS = 0
    before = state.used()

    # when Redis is another process, and numbers have to be seeded,
    state.restart()
    assert ours.message(1, "four")["number"] == 4
    drain_all()

    # then it has done what its user is allowed, all of it, and was refused nothing.
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
        state.client().execute_command(*command.split())


def test_nobody_else_is_let_in(state: DeployedRedis) -> None:
    with pytest.raises(redis.AuthenticationError):
        state.client(password="another").ping()
    with pytest.raises(redis.AuthenticationError):
        redis.Redis(port=state.port).ping()


def test_what_is_acknowledged_is_on_the_disk_and_not_evicted(state: DeployedRedis) -> None:
    information = state.client().info()

    assert information["aof_enabled"] == 1
    assert information["maxmemory_policy"] == "noeviction"
    assert "\nappendfsync always\n" in (DEPLOY / "state.conf").read_text()


def test_what_is_acknowledged_and_not_stored_outlives_a_kill(state: DeployedRedis, redis_server: object) -> None:
    """Redis replays its log as the user `default`, and leaves out, silently, what that one may not do within MULTI."""
    ours = Tenant.new(APIClient(), "ours")
    ours.chat()
    ours.message(1, "not stored")

    state.restart()

    assert ours.get("/chats/1/messages/1")["body"] == "not stored"
    assert drain_all() == 3


def test_the_cache_serves_celery_and_keeps_its_queues(tmp_path: Path) -> None:
    server = DeployedRedis(tmp_path, "cache")
    try:
        app = Celery(broker=server.url(1))
        with app.connection_for_write() as connection, connection.SimpleQueue("celery") as queue:
            queue.put({"hint": 1})
            assert queue.get(timeout=5).payload == {"hint": 1}
        assert server.client().info()["maxmemory_policy"] == "volatile-lru"
        with pytest.raises(redis.exceptions.NoPermissionError):
            server.client().flushall()
    finally:
        server.kill()
