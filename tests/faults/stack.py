"""The real stack for fault tests. Each connection between the product and a server goes through a proxy."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from subprocess import Popen
from typing import Protocol
from urllib.parse import urlsplit

import redis

from chatsystem.writelog.keys import Keys
from tests.support.product import Product, established, eventually, send, sockets, wait_until_drained
from tests.support.proxy import Proxy
from tests.support.services.clock import WallClock
from tests.support.services.database_server import DatabaseServer
from tests.support.services.disk import Disk
from tests.support.services.elasticsearch import Node
from tests.support.services.packages import Missing
from tests.support.services.redis import Redis

#: The product's kinds of process, and the words in their command lines.
ROLES = {
    "web": "chatsystem.wsgi",
    "live": "live.asgi",
    "worker": "celery_app worker ",
    "beat": "celery_app beat ",
}
REDIS, DATABASE, SEARCH = "Redis", "database", "Elasticsearch"


class Server(Protocol):
    process: Popen[bytes] | None

    def start(self) -> None: ...
    def kill(self) -> None: ...


class Stack:
    """Starts everything when it is created; `close` ends it. Raises `packages.Missing`."""

    def __init__(self, folder: Path, database: Callable[[Path], DatabaseServer]) -> None:
        self.folder = folder
        self.clock = WallClock(folder / "clock")
        self.closing: list[Callable[[], object]] = []
        # A server ends with the thread that started it, so these threads stay alive.
        self.starters = ThreadPoolExecutor(3)
        self.closing.append(self.starters.shutdown)
        self.disks = {name: self._disk(name) for name in (REDIS, DATABASE)}
        self.redis = Redis(folder / REDIS, self.clock.environ())
        self.database = database(folder / DATABASE)
        try:
            self._start()
        except BaseException:
            self.close()
            raise

    def _start(self) -> None:
        starting = self.starters.submit(Node, start_fast=True)
        for server in (self.redis, self.database):
            self.starters.submit(server.start).result()
            self.closing.append(server.kill)
        node = starting.result()
        self.closing.append(node.stop)
        self.servers: dict[str, Server] = {REDIS: self.redis, DATABASE: self.database, SEARCH: node}
        self.database.new_database("chat")
        self.proxies = {
            name: Proxy(port, self.role_of)
            for name, port in {
                REDIS: self.redis.port,
                DATABASE: self.database.port,
                SEARCH: urlsplit(node.url).port or 0,
            }.items()
        }
        self.closing += [proxy.close for proxy in self.proxies.values()]
        settings = {
            "WORKERS": "5",
            "REDIS_URL": f"redis://127.0.0.1:{self.proxies[REDIS].port}/0",
            "DATABASE_URL": self.database.url("chat", port=self.proxies[DATABASE].port),
            "ELASTICSEARCH_URL": f"http://127.0.0.1:{self.proxies[SEARCH].port}",
            **self.clock.environ(),
        }
        self.product = Product(self.folder / "product", settings=settings)
        self.closing.append(self.product.kill_everything)
        self.product.start()
        eventually(self.product.ready)

    def close(self) -> None:
        while self.closing:
            self.closing.pop()()

    def _disk(self, name: str) -> Disk | Missing:
        """Returns the server's folder as a small disk, or the reason why it is not one."""
        try:
            disk = Disk(self.folder / name)
        except Missing as missing:
            return missing
        self.closing.append(disk.unmount)
        return disk

    def disk(self, name: str) -> Disk:
        """Raises `packages.Missing`."""
        disk = self.disks[name]
        if isinstance(disk, Missing):
            raise disk
        return disk

    def kill(self, names: Collection[str]) -> None:
        """Sends SIGKILL to servers and to all processes of a role. supervisord restarts the latter."""
        for name in names:
            if name in ROLES:
                self.product.signal(ROLES[name], signal.SIGKILL)
            else:
                self.servers[name].kill()

    def start(self, names: Collection[str]) -> None:
        """Starts the servers among them in parallel. supervisord starts the others."""
        list(
            self.starters.map(lambda name: self.servers[name].start(), [name for name in names if name in self.servers])
        )

    def signal(self, name: str, number: signal.Signals) -> None:
        if name in ROLES:
            self.product.signal(ROLES[name], number)
        else:
            process = self.servers[name].process
            assert process is not None
            send(process.pid, number)

    def role_of(self, source_port: int) -> str:
        """Returns the role of a connection's owner, or "" when it is not the product's or is gone."""
        inodes = {inode for local, _, inode in established() if local == source_port}
        for role, words in ROLES.items():
            if inodes & sockets(self.product.pids(words)):
                return role
        return ""

    def copy_redis(self) -> None:
        """Copies Redis's files, and replaces the last copy."""
        shutil.rmtree(self.folder / "copy", ignore_errors=True)
        self.redis.copy(self.folder / "copy")

    def restore_redis(self) -> None:
        self.redis.restore(self.folder / "copy")

    def forget_sweep(self) -> bool:
        """Returns whether it succeeded. Redis may be down by another fault."""
        with suppress(redis.RedisError):
            self.redis.client.delete(Keys(0).heartbeat)
            return True
        return False

    def was_swept(self) -> bool:
        """Returns whether beat has swept since the heartbeat was deleted."""
        with suppress(redis.RedisError):
            return bool(self.redis.client.exists(Keys(0).heartbeat))
        return False

    def wait_until_drained(self) -> None:
        """Asks Redis itself, without the proxies."""
        wait_until_drained(self.redis.client)
