"""docker-compose.scale.yml: Compose accepts it, and its scripts run real Redis servers and Sentinels.

Addresses stand for host names.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import redis
import yaml
from rest_framework.test import APIClient

from chatsystem.embedded import redis_server
from tests.deploy.known_settings import KNOWN, ROOT
from tests.deploy.test_compose import SERVICES
from tests.deploy.test_redis_acl import DEPLOY, PASSWORD
from tests.support.harness import Tenant, forget_redis, skip_or_fail
from tests.support.ports import free_port
from tests.support.product import eventually
from tests.support.services import compose
from tests.support.services.packages import Missing

#: Go builds Compose, the first time.
pytestmark = [pytest.mark.nodes, pytest.mark.timeout(1800)]


class Machine:
    """A container of the overlay: a folder in place of its file system, and an address in place of its host name."""

    def __init__(self, folder: Path, script: str, address: str, ports: tuple[int, int], primary: str) -> None:
        self.folder, self.script, self.address = folder, script, address
        self.ports, self.primary = ports, primary
        (folder / "tmp").mkdir(parents=True)
        (folder / "secrets").mkdir()
        (folder / "secrets" / "REDIS_PASSWORD").write_text(f"{PASSWORD}\n")
        for name in ("start.sh", "scale.sh", "sentinel.sh", "scale.acl"):
            self._put(name, name)
        self._put("state.acl", "users.acl")
        self._put("state.conf", "redis.conf", f"\nbind {address}\nport {ports[0]}\nset-proc-title no\n")
        self.process: subprocess.Popen[bytes] | None = None

    def _put(self, name: str, target: str, more: str = "") -> None:
        here = {"/etc/redis": self.folder, "/run/secrets": self.folder / "secrets", "/data": self.folder}
        here["/tmp"] = self.folder / "tmp"
        text = re.sub("|".join(here), lambda path: str(here[path[0]]), (DEPLOY / name).read_text())
        port, sentinel = self.ports
        text = text.replace("protected-mode no", f"protected-mode no\nbind {self.address}\nport {sentinel}")
        (self.folder / target).write_text(text.replace(" 6379", f" {port}") + more)
        (self.folder / target).chmod(0o755)

    def start(self) -> None:
        program = str(Path(redis_server.find()).parent)
        environment = {"PATH": os.pathsep.join([program, os.environ["PATH"]]), "ANNOUNCE": self.address}
        if self.primary:
            environment["PRIMARY"] = self.primary
        self.process = subprocess.Popen(
            ["sh", self.folder / self.script], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def client(self, user: str = "chatsystem") -> Any:
        return redis.Redis(self.address, self.ports[0], username=user, password=PASSWORD, decode_responses=True)

    def role(self) -> str:
        with suppress(redis.RedisError):
            found: str = self.client().info("replication")["role"]
            return found
        return "away"

    def knows(self) -> dict[str, Any]:
        """What a Sentinel knows of the primary."""
        with suppress(redis.RedisError):
            sentinel = redis.Redis(self.address, self.ports[1], decode_responses=True)
            found: dict[str, Any] = sentinel.sentinel_master("state")
            return found
        return {"ip": "", "num-slaves": 0, "num-other-sentinels": 0}


class Cluster:
    def __init__(self, folder: Path) -> None:
        ports = free_port(), free_port()
        first = "127.0.0.11"
        self.servers = [
            Machine(folder / f"state-{n}", "scale.sh", f"127.0.0.{10 + n}", ports, first if n > 1 else "")
            for n in (1, 2, 3)
        ]
        self.sentinels = [
            Machine(folder / f"sentinel-{n}", "sentinel.sh", f"127.0.0.{20 + n}", ports, first) for n in (1, 2, 3)
        ]

    def start(self) -> None:
        for server in self.servers:
            server.start()
        # Sentinels start when the primary answers, as in the overlay.
        eventually(lambda: self.servers[0].role() == "master")
        for sentinel in self.sentinels:
            sentinel.start()
        eventually(self.settled)

    def settled(self) -> bool:
        """Whether every Sentinel sees two replicas of the same primary, and both follow it."""
        known = [sentinel.knows() for sentinel in self.sentinels]
        if {(each["ip"], each["num-slaves"], each["num-other-sentinels"]) for each in known} != {
            (known[0]["ip"], 2, 2)
        }:
            return False
        with suppress(redis.RedisError):
            replication = self.primary().client().info("replication")
            return replication["role"] == "master" and replication["connected_slaves"] == 2
        return False

    def primary(self) -> Machine:
        """The primary that the Sentinels name."""
        address = self.sentinels[0].knows()["ip"]
        return next(server for server in self.servers if server.address == address)

    def close(self) -> None:
        for machine in [*self.sentinels, *self.servers]:
            machine.kill()


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    cluster = Cluster(tmp_path)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.close()


def test_sentinel_promotes_a_replica_and_each_server_keeps_its_role_over_a_restart(cluster: Cluster) -> None:
    # Given a primary with two replicas, and a write that both have,
    first = cluster.primary()
    assert first is cluster.servers[0]
    first.client().set("{1}:probe", "kept")
    assert first.client().wait(2, 0) == 2

    # when the primary is killed, then a replica takes its place with the write,
    first.kill()
    eventually(lambda: cluster.sentinels[0].knows()["ip"] not in ("", first.address))
    second = cluster.primary()
    eventually(lambda: second.role() == "master")
    assert second.client().get("{1}:probe") == "kept"

    # the old primary comes back as a replica,
    first.start()
    eventually(lambda: first.role() == "slave")
    eventually(cluster.settled)

    # and whoever is restarted keeps its role: nobody is a replica of the first one again.
    for machine in (second, first):
        role = machine.role()
        machine.kill()
        machine.start()
        eventually(lambda: machine.role() != "away")  # noqa: B023
        assert machine.role() == role or cluster.primary() is not second
    eventually(cluster.settled)
    assert cluster.primary().client().get("{1}:probe") == "kept"


@pytest.mark.parametrize("user", ["replica", "sentinel"])
def test_a_user_of_the_servers_themselves_reads_and_writes_no_data(cluster: Cluster, user: str) -> None:
    client = cluster.primary().client(user)

    for command in ("GET {1}:probe", "SET {1}:probe 1", "FLUSHALL", "KEYS *", "CONFIG GET *", "ACL LIST"):
        with pytest.raises(redis.exceptions.NoPermissionError):
            client.execute_command(*command.split())


@pytest.fixture(scope="module")
def merged() -> dict[str, Any]:
    """Both files, as Compose merges them."""
    files = ["--file", ROOT / "docker-compose.yml", "--file", ROOT / "docker-compose.scale.yml"]
    try:
        command = compose.command()
    except Missing as missing:
        skip_or_fail(missing)
    # Without the .env of a developer.
    run = subprocess.run(
        [*command, "--env-file", "/dev/null", *files, "config"], capture_output=True, text=True, env={**os.environ}
    )
    assert run.returncode == 0, run.stderr
    found: dict[str, Any] = yaml.safe_load(run.stdout)["services"]
    return found


def test_compose_accepts_both_files_and_warns_of_nothing(merged: dict[str, Any]) -> None:
    assert merged.keys() > SERVICES.keys()


def test_each_added_service_has_a_healthcheck_limits_and_no_rights_to_gain(merged: dict[str, Any]) -> None:
    for name in merged.keys() - SERVICES.keys():
        service = merged[name]
        assert service["deploy"]["resources"]["limits"]["memory"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert "ports" not in service, name
        assert service.get("healthcheck", {}).get("test") or service["restart"] == "no", name


def test_the_start_waits_for_each_service_that_ends(merged: dict[str, Any]) -> None:
    """`up --wait` fails if a service ends that no other one waits for, even with exit code 0."""
    ending = {name for name, service in merged.items() if service["restart"] == "no"}
    awaited = {
        name
        for service in merged.values()
        for name, dependency in service.get("depends_on", {}).items()
        if dependency["condition"] == "service_completed_successfully"
    }

    assert "replicate" in ending
    assert ending == awaited


def told_by_the_replicas_script(folder: Path, used: int) -> str:
    """Runs replica.sh with a client that only writes down what it is told, and answers each question with `used`."""
    for name in ("MYSQL_PASSWORD", "MYSQL_ROOT_PASSWORD"):
        (folder / name).write_text(f"{'0123456789abcdef' * 4}\n")
    client = folder / "mysql"
    client.write_text(f'#!/bin/sh\nprintf "%s\\n" "$*" >> {folder}/told\necho {used}\n')
    client.chmod(0o755)
    script = (ROOT / "deploy/mysql/replica.sh").read_text().replace("/run/secrets", str(folder))
    subprocess.run(["sh", "-c", script], env={"PATH": f"{folder}:{os.environ['PATH']}"}, check=True)
    return (folder / "told").read_text()


def test_a_replica_that_was_promoted_is_left_alone_by_the_next_start(tmp_path: Path) -> None:
    told = told_by_the_replicas_script(tmp_path, used=1)

    assert "SCHEMA_NAME = 'chatsystem'" in told
    assert "RESET" not in told


def test_the_replica_logs_in_with_a_password_that_mysql_accepts(tmp_path: Path) -> None:
    told = told_by_the_replicas_script(tmp_path, used=0)

    # The user has the replica's password, within MySQL's limit of 32 characters.
    passwords = re.findall(r"(?:IDENTIFIED BY|SOURCE_PASSWORD =) '(\w+)'", told)
    assert passwords == ["0123456789abcdef" * 2] * 2


def test_sentinels_and_replicas_do_not_wait_for_the_name_of_a_dead_primary(merged: dict[str, Any]) -> None:
    """A Sentinel whose look-up takes more than two seconds enters its TILT mode, and promotes nobody."""
    for name in ("redis-state", "sentinel"):
        several = [service for found, service in merged.items() if found.startswith(name)]
        assert [(each["dns_search"], each["dns_opt"]) for each in several] == [(["."], ["ndots:1"])] * 3


def test_each_server_keeps_its_own_volume_and_every_mounted_file_exists(merged: dict[str, Any]) -> None:
    kept: dict[str, str] = {}
    for name, service in merged.items():
        for volume in service.get("volumes", []):
            if volume["type"] == "bind":
                assert Path(volume["source"]).is_file(), volume
                assert volume["read_only"], volume
            elif not volume.get("read_only") and name != "secrets":
                assert kept.setdefault(volume["source"], name) == name, volume


def test_all_processes_wait_for_a_replica_and_use_sentinel(merged: dict[str, Any]) -> None:
    for name in ("web", "worker", "background", "beat", "migrate"):
        assert merged[name]["environment"]["REDIS_REPLICAS"] == "1"
        assert merged[name]["environment"].keys() - {"GUNICORN_CMD_ARGS"} <= KNOWN
    sentinels = [name for name in merged if name.startswith("sentinel-")]
    url = merged["secrets"]["environment"]["REDIS_URL"]
    assert url.partition("@")[2] == f"{','.join(f'{name}:26379' for name in sorted(sentinels))}/state/0"


def test_the_product_goes_on_after_a_failover_as_its_own_user(
    cluster: Cluster, settings: Any, transactional_db: None, redis_server: object
) -> None:
    sentinels = ",".join(f"{each.address}:{each.ports[1]}" for each in cluster.sentinels)
    settings.REDIS_URL = f"sentinel://chatsystem:{quote(PASSWORD, safe='')}@{sentinels}/state/0"
    settings.REDIS_REPLICAS = 1
    forget_redis()
    try:
        ours = Tenant.new(APIClient(), "ours")
        ours.chat()
        ours.message(1, "before")
        first = cluster.primary()

        first.kill()

        def posted() -> bool:
            answer = APIClient().post(f"{ours.path}/chats/1/messages", {"body": "after"}, format="json")
            assert answer.status_code in (201, 503), answer.content
            return answer.status_code == 201

        eventually(posted)
        bodies = [message["body"] for message in ours.get("/chats/1/messages")["results"]]
        # A 503 `outcome_unknown` may have been accepted.
        assert bodies[0] == "before"
        assert set(bodies[1:]) == {"after"}
    finally:
        forget_redis()
