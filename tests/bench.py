"""What tests act with: a Redis to start, a tenant to act for, a drain to call."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NoReturn

import pytest
import redis
from django.conf import settings
from django.db import connections
from rest_framework.test import APIClient

from chatsystem.data_dir import DataDir
from chatsystem.embedded import redis_server
from tests.services.packages import Missing


class RealRedis:
    """A state Redis as `make run` configures it, answering on its DATA_DIR's socket: by default the settings'."""

    def __init__(self, data_dir: DataDir | None = None) -> None:
        self.data_dir = data_dir or settings.DATA_DIR
        self.start()

    def start(self) -> None:
        socket = self.data_dir.redis_socket
        for folder in (socket.parent, self.data_dir.redis):
            folder.mkdir(parents=True, exist_ok=True)
        self.process = subprocess.Popen(redis_server.command(self.data_dir), stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 10
        while True:
            try:
                redis.Redis(unix_socket_path=str(socket)).ping()
                return
            except redis.ConnectionError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def restart(self) -> None:
        """The same data, another process."""
        self.kill()
        self.start()


def forget_redis() -> None:
    """Lets the write log connect anew: to what settings.REDIS_URL names now."""
    from chatsystem.writelog.state import client

    client.cache_clear()


def in_threads(work: Callable[[int], None], clients: Iterable[int]) -> None:
    """Runs `work` for each client in a thread of its own, all begun together; raises what any of them raised."""
    clients = list(clients)
    together = threading.Barrier(len(clients))

    def run(client: int) -> None:
        together.wait()
        try:
            work(client)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(len(clients)) as pool:
        for future in [pool.submit(run, client) for client in clients]:
            future.result()


def drain_all() -> int:
    """Stores everything that is in the log, as workers would; returns the number of events."""
    from chatsystem.writelog import log
    from chatsystem.writelog.drain import drain

    return sum(drain(partition) for partition in log.lengths())


def skip_or_fail(missing: Missing) -> NoReturn:
    """At home a service may be absent. In CI a skipped test would be one that nobody notices is never run."""
    if os.environ.get("CI") == "true":
        pytest.fail(str(missing), pytrace=False)
    pytest.skip(str(missing))


@dataclass
class Tenant:
    """An application, seen through the API."""

    api: APIClient
    token: str

    @classmethod
    def new(cls, api: APIClient, name: str) -> Tenant:
        return cls(api, api.post("/applications", {"name": name}, format="json").json()["token"])

    @property
    def path(self) -> str:
        return f"/applications/{self.token}"

    def chat(self, title: str = "a chat", **headers: str) -> dict[str, Any]:
        return self._created(f"{self.path}/chats", {"title": title}, headers)

    def message(self, chat: int, body: str = "a message", **headers: str) -> dict[str, Any]:
        return self._created(f"{self.path}/chats/{chat}/messages", {"body": body}, headers)

    def batch(self, chat: int, bodies: list[str], **headers: str) -> list[dict[str, Any]]:
        return self._created(f"{self.path}/chats/{chat}/messages", [{"body": body} for body in bodies], headers)

    def get(self, path: str = "", **params: object) -> Any:
        response = self.api.get(f"{self.path}{path}", params)
        assert response.status_code == 200, response.content
        return response.json()

    def _created(self, path: str, data: Any, headers: dict[str, str]) -> Any:
        response = self.api.post(path, data, format="json", headers=headers)
        assert response.status_code == 201, response.content
        return response.json()
