"""Standby Redis processes that take over from one another. Documented in docs/reliability.md.

A Redis that restarts, fails over or is restored is another process with other data. Moving the data to a process that
already runs looks the same to its clients and takes a millisecond.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import redis

from chatsystem.conf.data_dir import DataDir
from tests.support.harness import RealRedis


@dataclass(frozen=True)
class Snapshot:
    """All keys of a Redis: name → its DUMP and its time to live in milliseconds (0: no expiry)."""

    keys: dict[bytes, tuple[bytes, int]]


class Standby:
    """Several servers behind one address, which leads to one of them at a time.

    None of them may take over twice with the same state: it would trust numbers from before it was replaced.
    """

    def __init__(self, root: Path, processes: int) -> None:
        self.address = root / "redis.sock"
        self.servers = [RealRedis(DataDir(root / str(i))) for i in range(processes)]
        self.clients = [redis.Redis(unix_socket_path=str(server.data_dir.redis_socket)) for server in self.servers]
        for client in self.clients:
            # The disk does not matter here and would take most of the time.
            client.config_set("appendonly", "no")
        self.begin()

    @property
    def left(self) -> int:
        """Returns how many have not been in service since `begin`."""
        return len(self.servers) - 1 - self.serving

    def begin(self) -> None:
        """Lets the first one serve, empty."""
        self._serve(0, Snapshot({}))

    def snapshot(self) -> Snapshot:
        client = self.clients[self.serving]
        names = sorted(client.keys())
        pipeline = client.pipeline()
        for name in names:
            pipeline.dump(name).pttl(name)
        found = pipeline.execute()
        return Snapshot({name: (found[2 * i], max(found[2 * i + 1], 0)) for i, name in enumerate(names)})

    def take_over(self, data: Snapshot) -> None:
        """Lets the next process serve, with this data. Connections to the previous one are lost."""
        self._serve(self.serving + 1, data)

    def _serve(self, process: int, data: Snapshot) -> None:
        pipeline = self.clients[process].pipeline().flushall().script_flush()
        for name, (value, ttl) in data.keys.items():
            pipeline.restore(name, ttl, value)
        pipeline.execute()
        self.serving = process
        link = self.address.with_suffix(".new")
        link.symlink_to(self.servers[process].data_dir.redis_socket)
        os.replace(link, self.address)

    def kill(self) -> None:
        for server in self.servers:
            server.kill()
