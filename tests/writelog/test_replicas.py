"""REDIS_REPLICAS: a write is acknowledged once those have it that may take Redis's place, so a failover loses none."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis
from rest_framework.test import APIClient

from chatsystem.embedded import redis_server as program
from chatsystem.writelog import log
from chatsystem.writelog.state import client
from tests.bench import Tenant, drain_all, forget_redis
from tests.embedded.product import eventually, free_port


class Server:
    """A Redis on a port of its own; with a `leader` it is the replica of that one."""

    def __init__(self, folder: Path, leader: Server | None = None) -> None:
        folder.mkdir()
        self.port = free_port()
        options = ["--port", self.port, "--dir", folder, "--save", "", "--repl-diskless-sync-delay", 0]
        options += ["--appendonly", "yes", "--appendfsync", "always"]
        if leader:
            options += ["--replicaof", "127.0.0.1", leader.port]
        self.process = subprocess.Popen([program.find(), *map(str, options)], stdout=subprocess.DEVNULL)
        self.client: Any = redis.Redis(port=self.port, decode_responses=True)
        eventually(self._answers, within=10)

    def _answers(self) -> bool:
        try:
            return bool(self.client.ping())
        except redis.ConnectionError:
            return False

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    @contextmanager
    def stopped(self) -> Iterator[None]:
        self.process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.process.send_signal(signal.SIGCONT)


@pytest.fixture
def leader(tmp_path: Path, settings: Any) -> Iterator[Server]:
    with ExitStack() as running:
        server = Server(tmp_path / "leader")
        running.callback(server.kill)
        # Now, and again when the settings are back.
        running.callback(forget_redis)
        use(server, settings)
        yield server


@pytest.fixture
def replica(tmp_path: Path, leader: Server, settings: Any) -> Iterator[Server]:
    server = Server(tmp_path / "replica", leader)
    eventually(lambda: server.client.info("replication")["master_link_status"] == "up", within=10)
    settings.REDIS_REPLICAS, settings.REDIS_TIMEOUT = 1, 0.4
    yield server
    server.kill()


def use(server: Server, settings: Any) -> None:
    settings.REDIS_URL = f"redis://127.0.0.1:{server.port}/0"
    forget_redis()


def promote(replica: Server, leader: Server, settings: Any) -> None:
    """What Sentinel does when the leader is gone."""
    leader.kill()
    replica.client.replicaof("NO", "ONE")
    use(replica, settings)


def test_after_a_failover_everything_acknowledged_is_there_and_numbers_go_on(
    transactional_db: None, leader: Server, replica: Server, settings: Any
) -> None:
    # Given writes that were acknowledged and not drained, and two of them stored,
    api = APIClient()
    ours = Tenant.new(api, "ours")
    ours.chat()
    ours.batch(1, ["one", "two"])
    drain_all()
    ours.message(1, "three", **{"Idempotency-Key": "k"})

    # when the leader dies and its replica takes its place,
    promote(replica, leader, settings)
    settings.REDIS_REPLICAS = 0

    # then what was acknowledged is read, and stored, the repeated request is known, and the next number follows.
    assert ours.get("/chats/1/messages/3")["body"] == "three"
    assert ours.message(1, "three", **{"Idempotency-Key": "k"})["number"] == 3
    assert ours.message(1, "four")["number"] == 4
    drain_all()
    assert [message["body"] for message in ours.get("/chats/1/messages")["results"]] == ["one", "two", "three", "four"]


def test_a_write_that_no_replica_has_is_not_acknowledged_and_none_is_lost_by_a_failover_to_one_that_lags(
    transactional_db: None, leader: Server, replica: Server, settings: Any
) -> None:
    # Given a replica that has stopped following,
    api = APIClient()
    ours = Tenant.new(api, "ours")
    ours.chat()
    ours.message(1, "one")
    with replica.stopped():
        # when a message is posted, then it is refused,
        refused = api.post(f"{ours.path}/chats/1/messages", {"body": "two"}, format="json")
        assert (refused.status_code, refused["Retry-After"]) == (503, "1")

    # and when the replica takes the leader's place, nothing acknowledged is missing, and no number doubled.
    promote(replica, leader, settings)
    settings.REDIS_REPLICAS = 0
    drain_all()
    bodies = [message["body"] for message in ours.get("/chats/1/messages")["results"]]
    assert bodies in (["one"], ["one", "two"])
    assert ours.message(1, "next")["number"] == len(bodies) + 1


def test_a_repeated_request_waits_for_the_replica_too(
    transactional_db: None, leader: Server, replica: Server, settings: Any
) -> None:
    # Given a write that was refused since no replica had it: its receipt is there,
    api = APIClient()
    ours = Tenant.new(api, "ours")
    ours.chat()
    path, key = f"{ours.path}/chats/1/messages", {"Idempotency-Key": "k"}
    with replica.stopped():
        assert api.post(path, {"body": "one"}, format="json", headers=key).status_code == 503
        # when it is repeated over a new connection, then it is refused again,
        client().connection_pool.disconnect()
        assert api.post(path, {"body": "one"}, format="json", headers=key).status_code == 503

    # and acknowledged, once, as soon as the replica follows.
    eventually(lambda: api.post(path, {"body": "one"}, format="json", headers=key).status_code == 201, within=10)
    assert [message["body"] for message in ours.get("/chats/1/messages")["results"]] == ["one"]
    assert replica.client.xlen(log.Keys(log.partition_of(ours.token)).log) == 3
