"""Helpers of many tests: a Redis to start, a tenant to act for, a drain to call."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NoReturn

import pytest
from django.conf import settings
from django.db import OperationalError, connection, connections, transaction
from rest_framework.test import APIClient

from chatsystem.conf.data_dir import DataDir
from chatsystem.embedded import redis_server
from tests.support.redis_process import RedisProcess, connect
from tests.support.services.packages import Missing


class RealRedis(RedisProcess):
    """A state Redis as `make run` configures it, on the socket of its DATA_DIR (by default that of the settings)."""

    def __init__(self, data_dir: DataDir | None = None) -> None:
        self.data_dir = data_dir or settings.DATA_DIR
        socket = self.data_dir.redis_socket
        super().__init__(redis_server.command(self.data_dir), connect(unix_socket_path=str(socket)))
        for folder in (socket.parent, self.data_dir.redis):
            folder.mkdir(parents=True, exist_ok=True)
        self.start()


def forget_redis() -> None:
    """Makes the write log connect again, to the current settings.REDIS_URL."""
    from chatsystem.writelog.servers import servers

    servers.cache_clear()


def dump(state: Any) -> dict[str, bytes]:
    """Returns all keys of a Redis's partitions, for `put_back`."""
    dumped = {name: state.dump(name) for name in state.keys("{*")}
    # A key may have expired since it was listed.
    return {name: value for name, value in dumped.items() if value is not None}


def put_back(state: Any, dumped: dict[str, bytes]) -> None:
    """Restores the keys in one round trip, so that nobody writes in between. They no longer expire."""
    pipeline = state.pipeline()
    for name, value in dumped.items():
        pipeline.restore(name, 0, value, replace=True)
    pipeline.execute()


def in_threads(work: Callable[[int], None], clients: Iterable[int]) -> None:
    """Runs `work` for each client in its own thread, all at once. Raises the first exception of any of them."""
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
    """Drains the whole log like the workers, and returns the number of events."""
    from chatsystem.writelog import stream
    from chatsystem.writelog.drain import drain

    return sum(drain([partition]) for partition in stream.lengths())


def is_locked(partition: int) -> bool:
    """Returns whether the partition's row is locked, from the view of another drain."""
    from chatsystem.writelog.models import Partition

    seen: list[bool] = []

    def look(_: int) -> None:
        if connection.vendor == "sqlite":
            with connection.cursor() as cursor:
                cursor.execute("PRAGMA busy_timeout = 0")
        try:
            with transaction.atomic():
                row = Partition.objects.select_for_update(skip_locked=True).filter(pk=partition).first()
            seen.append(row is None)
        except OperationalError:
            seen.append(True)

    in_threads(look, [0])
    return seen[0]


def skip_or_fail(missing: Missing) -> NoReturn:
    """Skips the test because a service is missing. In CI it fails instead, since nobody would notice the skip."""
    if os.environ.get("CI") == "true":
        pytest.fail(str(missing), pytrace=False)
    pytest.skip(str(missing))


@dataclass
class Tenant:
    """An application, used through the API."""

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
