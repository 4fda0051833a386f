"""Redis processes that stand by, to take over from one another. Documented in docs/reliability.md.

A Redis that restarts, fails over or is restored is another process with other data. Moving the data to a process that
runs already is the same to all who ask, and takes a millisecond.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import redis

from chatsystem.data_dir import DataDir
from tests.bench import RealRedis


@dataclass(frozen=True)
class Snapshot:
    """All keys of a Redis: name → what DUMP says, and the milliseconds it has to live (0 for ever)."""

    keys: dict[bytes, tuple[bytes, int]]


class Standby:
    """`processes` servers and an address, which leads to one of them at a time.

    None of them may take over twice with the same state: it would trust numbers that it gave before it was replaced.
    """

    def __init__(self, root: Path, processes: int) -> None:
        self.address = root / "redis.sock"
        self.servers = [RealRedis(DataDir(root / str(i))) for i in range(processes)]
        self.clients = [redis.Redis(unix_socket_path=str(server.data_dir.redis_socket)) for server in self.servers]
        for client in self.clients:
            # What is on the disk is not asked for here, and costs most of the time.
            client.config_set("appendonly", "no")
        self.begin()

    @property
    def left(self) -> int:
        """How many have not been in service since `begin`."""
        return len(self.servers) - 1 - self.serving

    def begin(self) -> None:
        """The first one serves, and holds nothing."""
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
        """Another process serves from now on, with this data. Connections to the one before are lost."""
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
