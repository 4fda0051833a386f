"""A real Redis that is reached over TCP: the state Redis of the embedded profile, with a port."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from contextlib import suppress
from functools import partial
from pathlib import Path

import redis

from chatsystem.data_dir import DataDir
from chatsystem.embedded import redis_server
from chatsystem.embedded.tied import end_with_parent
from tests.services.database_server import free_port


class Redis:
    """On its own port and folder. `environ` is added to the server's environment."""

    def __init__(self, folder: Path, environ: dict[str, str] | None = None) -> None:
        self.folder = folder
        self.port = free_port()
        self.environ = environ or {}
        self.client = redis.Redis(port=self.port, decode_responses=True)

    def start(self) -> None:
        """Returns when it has read its log."""
        data = DataDir(self.folder).redis
        data.mkdir(parents=True, exist_ok=True)
        # The later option counts.
        options = ["--port", str(self.port), "--bind", "127.0.0.1", "--unixsocket", ""]
        self.process = subprocess.Popen(
            [*redis_server.command(DataDir(self.folder)), *options],
            env={**os.environ, **self.environ},
            stdout=subprocess.DEVNULL,
            preexec_fn=partial(end_with_parent, signal.SIGKILL, parent=os.getpid()),
        )
        deadline = time.monotonic() + 60
        while True:
            try:
                self.client.ping()
                return
            except redis.ConnectionError:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    raise
                time.sleep(0.02)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def copy(self, folder: Path) -> None:
        """Copies what is on its disk, while it runs: a copy may lack the end."""
        data = DataDir(self.folder).redis
        manifest = data / "appendonlydir" / "appendonly.aof.manifest"
        while True:
            before = manifest.read_text()
            # A rewrite of its log that ends meanwhile takes files away.
            with suppress(OSError):
                shutil.copytree(data, folder)
                if manifest.read_text() == before:
                    return
            shutil.rmtree(folder)

    def restore(self, folder: Path) -> None:
        """Puts a copy back in place of what is on its disk. Not while it runs."""
        data = DataDir(self.folder).redis
        shutil.rmtree(data)
        shutil.copytree(folder, data)
