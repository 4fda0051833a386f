"""What tests act with: a Redis to start, a tenant to act for, a drain to call."""

from __future__ import annotations

import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis
from rest_framework.test import APIClient


def start_redis(folder: Path) -> subprocess.Popen:
    """A state Redis as `make run` configures it, answering on the socket that the settings name."""
    from chatsystem.embedded.redis_server import find_redis_server

    from django.conf import settings

    socket = settings.DATA_DIR.redis_socket
    socket.parent.mkdir(parents=True, exist_ok=True)
    command = [find_redis_server(), "--port", "0", "--unixsocket", str(socket), "--dir", str(folder)]
    command += ["--appendonly", "yes", "--appendfsync", "always", "--maxmemory-policy", "noeviction", "--save", ""]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 10
    while True:
        try:
            redis.Redis(unix_socket_path=str(socket)).ping()
            return process
        except redis.ConnectionError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def drain_all() -> int:
    """Stores everything that is in the log, as workers would; returns the number of events."""
    from chatsystem.writelog import log
    from chatsystem.writelog.drain import drain

    return sum(drain(partition) for partition in log.lengths())


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
