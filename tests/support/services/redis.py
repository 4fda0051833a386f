"""A real Redis over TCP: the state Redis of the embedded profile, with a port."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

import redis

from chatsystem.conf.data_dir import DataDir
from chatsystem.embedded import redis_server
from chatsystem.embedded.parent_death import end_with_parent
from tests.support.ports import free_port


class Redis:
    """A Redis with its own port and folder, and additions to its environment and command line."""

    def __init__(self, folder: Path, environ: dict[str, str] | None = None, options: Sequence[str] = ()) -> None:
        self.folder = folder
        self.port = free_port()
        self.environ = environ or {}
        self.options = options
        self.client = redis.Redis(port=self.port, decode_responses=True)

    def start(self) -> None:
        """Starts Redis, and waits until it has read its log."""
        data = DataDir(self.folder).redis
        data.mkdir(parents=True, exist_ok=True)
        # The last option of a name counts.
        options = ["--port", str(self.port), "--bind", "127.0.0.1", "--unixsocket", "", *self.options]
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
        """Copies its files while it runs. The copy may lack the end."""
        data = DataDir(self.folder).redis
        manifest = data / "appendonlydir" / "appendonly.aof.manifest"
        while True:
            before = manifest.read_text()
            # The end of a log rewrite removes files.
            with suppress(OSError):
                shutil.copytree(data, folder)
                if manifest.read_text() == before:
                    return
            shutil.rmtree(folder)

    def restore(self, folder: Path) -> None:
        """Replaces its files by a copy. Only while it does not run."""
        data = DataDir(self.folder).redis
        shutil.rmtree(data)
        shutil.copytree(folder, data)
