"""The reference of the stream benchmarks: Centrifugo with its Redis engine, SSE and history."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from functools import partial
from pathlib import Path
from typing import Any

import requests

from chatsystem.embedded import redis_server
from chatsystem.embedded.parent_death import end_with_parent
from tests.support.ports import free_port
from tests.support.product import eventually
from tests.support.services.elasticsearch import CACHE
from tests.support.services.packages import Missing, one_at_a_time

NAME = "Centrifugo"
VERSION = "v6.9.1"
MODULE = f"github.com/centrifugal/centrifugo/v6@{VERSION}"


def find() -> Path:
    """Returns the program. Builds it first, which takes minutes. Raises `Missing` without Go."""
    program = CACHE / f"centrifugo-{VERSION}" / "centrifugo"
    with one_at_a_time("centrifugo"):
        if not program.exists():
            if shutil.which("go") is None:
                raise Missing(f"{NAME} cannot be built, go not found: https://go.dev/dl")
            environ = {**os.environ, "GOBIN": str(program.parent)}
            built = subprocess.run(["go", "install", MODULE], env=environ, capture_output=True, text=True, check=False)
            if built.returncode:
                raise Missing(f"`go install {MODULE}` failed: {built.stderr.strip().splitlines()[-1]}")
    return program


class Centrifugo:
    """A node and a Redis of its own with default persistence. It acknowledges before its Redis has synced anything."""

    def __init__(self, folder: Path) -> None:
        program, redis_port = find(), free_port()
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        config: dict[str, Any] = {
            "http_server": {"address": "127.0.0.1", "port": str(self.port)},
            "log": {"level": "warn"},
            "engine": {"type": "redis", "redis": {"address": f"redis://127.0.0.1:{redis_port}"}},
            "client": {"insecure": True},
            "http_api": {"insecure": True},
            "uni_sse": {"enabled": True},
            "channel": {
                "without_namespace": {"history_size": 10_000, "history_ttl": "300s", "force_recovery": True},
            },
            "health": {"enabled": True},
        }
        (folder / "config.json").write_text(json.dumps(config))
        self.processes = [
            _start(folder / "redis.log", [redis_server.find(), "--port", str(redis_port), "--dir", str(folder)]),
            _start(folder / "centrifugo.log", [str(program), "--config", str(folder / "config.json")]),
        ]
        eventually(self._is_ready)

    def _is_ready(self) -> bool:
        try:
            return requests.get(f"{self.url}/health", timeout=5).status_code == 200
        except requests.RequestException:
            return False

    def stop(self) -> None:
        for process in reversed(self.processes):
            process.kill()
            process.wait()


def _start(log: Path, command: list[str]) -> subprocess.Popen[bytes]:
    with log.open("wb") as output:
        return subprocess.Popen(
            command,
            stdout=output,
            stderr=output,
            preexec_fn=partial(end_with_parent, signal.SIGKILL, parent=os.getpid()),
        )
