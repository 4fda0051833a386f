"""Several state Redis servers, of which the write log uses one at a time, as on several hosts."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import redis

from chatsystem.embedded import redis_server as program
from tests.support.network import LOCAL, Host
from tests.support.ports import free_port
from tests.support.product import eventually
from tests.support.redis_process import RedisProcess, connect


class Server(RedisProcess):
    """A Redis on its own port. With a `leader`, it is its replica."""

    def __init__(
        self,
        folder: Path,
        leader: Server | None = None,
        options: Sequence[str] = (),
        password: str | None = None,
        host: Host = LOCAL,
    ) -> None:
        folder.mkdir()
        self.address, self.port = host.address, free_port()
        words = [*options, "--port", self.port, "--dir", folder, "--save", "", "--repl-diskless-sync-delay", 0]
        words += ["--appendonly", "yes", "--appendfsync", "always"]
        if leader:
            words += ["--replicaof", leader.address, leader.port]
        self.password = password
        client = connect(host=self.address, port=self.port, password=password, decode_responses=True)
        super().__init__(host.command([program.find(), *map(str, words)]), client)
        self.start()

    @contextmanager
    def stopped(self) -> Iterator[None]:
        self.process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.process.send_signal(signal.SIGCONT)


class Sentinels:
    """Three sentinels that watch a primary and promote one of its replicas.

    A primary is down that has not answered for `down_after` milliseconds. One on a busy machine may take a second.
    """

    #: In capital letters too: clients must not change it.
    SERVICE = "State"

    def __init__(
        self, folder: Path, primary: Server, replicas: int = 1, host: Host = LOCAL, down_after: int = 5_000
    ) -> None:
        folder.mkdir()
        self.replicas, self.address = replicas, host.address
        self.ports = [free_port() for _ in range(3)]
        self.processes = []
        for port in self.ports:
            file = folder / f"{port}.conf"
            file.write_text(
                f"port {port}\nbind {self.address}\ndir {folder}\n"
                f"sentinel monitor {self.SERVICE} {primary.address} {primary.port} 2\n"
                f"sentinel down-after-milliseconds {self.SERVICE} {down_after}\n"
                f"sentinel failover-timeout {self.SERVICE} 6000\n"
                + (f"sentinel auth-pass {self.SERVICE} {primary.password}\n" if primary.password else "")
            )
            command = host.command([program.find(), str(file), "--sentinel"])
            self.processes.append(subprocess.Popen(command, stdout=subprocess.DEVNULL))
        # All of them must have found the replicas and each other: otherwise none is promoted.
        eventually(lambda: all(map(self._is_complete, self.ports)))

    def _is_complete(self, port: int) -> bool:
        try:
            client = connect(host=self.address, port=port, decode_responses=True)
            found = client.sentinel_master(self.SERVICE)
        except (redis.ConnectionError, redis.ResponseError):
            return False
        return found["num-slaves"] == self.replicas and found["num-other-sentinels"] == 2

    def url(self, user: str = "") -> str:
        hosts = ",".join(f"{self.address}:{port}" for port in self.ports)
        return f"sentinel://{user}{hosts}/{self.SERVICE}/0"

    def kill(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()


class Cluster:
    """A Redis Cluster of three primaries, each with `replicas` replicas.

    A node is down that has not answered for `node_timeout` milliseconds. One on a busy machine may take a second.
    """

    SLOTS = 16384

    def __init__(self, folder: Path, replicas: int = 0, node_timeout: int = 5_000) -> None:
        folder.mkdir()
        options = ["--cluster-enabled", "yes", "--cluster-node-timeout", str(node_timeout)]
        # One node away must not stop the others.
        options += ["--cluster-require-full-coverage", "no"]
        # By default, nodes talk to each other at 10,000 above their port, which may be too high.
        buses = [str(free_port()) for _ in range(3 * (1 + replicas))]
        self.nodes = [
            Server(folder / f"node{number}", options=[*options, "--cluster-port", bus])
            for number, bus in enumerate(buses)
        ]
        self.primaries = self.nodes[:3]
        for number, node in enumerate(self.primaries):
            first, last = self.SLOTS * number // 3, self.SLOTS * (number + 1) // 3 - 1
            node.client.execute_command("CLUSTER", "ADDSLOTSRANGE", first, last)
            node.client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        for node in self.nodes[1:]:
            node.client.execute_command("CLUSTER", "MEET", "127.0.0.1", self.nodes[0].port, buses[0])
        eventually(lambda: all(self._knows_all(node) for node in self.nodes))
        for number, node in enumerate(self.nodes[3:]):
            node.client.execute_command("CLUSTER", "REPLICATE", self.id_of(self.primaries[number % 3]))
        eventually(lambda: all(self._is_ok(node, replicas) for node in self.nodes))

    @staticmethod
    def id_of(node: Server) -> str:
        return str(node.client.execute_command("CLUSTER", "MYID"))

    def _knows_all(self, node: Server) -> bool:
        return int(node.client.execute_command("CLUSTER INFO")["cluster_known_nodes"]) == len(self.nodes)

    def _is_ok(self, node: Server, replicas: int) -> bool:
        if node.client.execute_command("CLUSTER INFO")["cluster_state"] != "ok":
            return False
        found = node.client.info("replication")
        if found["role"] == "master":
            return int(found["connected_slaves"]) == replicas
        return found["master_link_status"] == "up"

    def url(self) -> str:
        return "redis+cluster://" + ",".join(f"127.0.0.1:{node.port}" for node in self.primaries)

    def primary_of(self, key: str) -> Server:
        slot = self.primaries[0].client.execute_command("CLUSTER", "KEYSLOT", key)
        return self.primaries[slot * 3 // self.SLOTS]

    def move_slot(self, key: str, to: Server) -> None:
        """Moves the key's slot to another primary, as `redis-cli --cluster reshard` does."""
        source = self.primary_of(key)
        slot = source.client.execute_command("CLUSTER", "KEYSLOT", key)
        to.client.execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", self.id_of(source))
        source.client.execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", self.id_of(to))
        while keys := source.client.execute_command("CLUSTER", "GETKEYSINSLOT", slot, 100):
            source.client.execute_command("MIGRATE", "127.0.0.1", to.port, "", 0, 5000, "KEYS", *keys)
        for node in (to, source):
            node.client.execute_command("CLUSTER", "SETSLOT", slot, "NODE", self.id_of(to))

    def kill(self) -> None:
        for node in self.nodes:
            node.kill()


def use(server: Server, settings: Any, user: str = "") -> None:
    use_url(f"redis://{user}127.0.0.1:{server.port}/0", settings)


def use_url(url: str, settings: Any) -> None:
    # Imported here: `make scale` starts servers without Django's settings.
    from tests.support.harness import forget_redis

    settings.REDIS_URL = url
    forget_redis()


@contextmanager
def briefly(settings: Any) -> Iterator[None]:
    """Shortens the wait for a replica that will not answer."""
    patient, settings.REDIS_TIMEOUT = settings.REDIS_TIMEOUT, 0.4
    yield
    settings.REDIS_TIMEOUT = patient
