"""A real Redis over TCP: the state Redis of the embedded profile, with a port."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

from chatsystem.conf.data_dir import DataDir
from chatsystem.embedded import redis_server
from chatsystem.embedded.parent_death import end_with_parent
from tests.support.ports import free_port
from tests.support.redis_process import RedisProcess, connect


class Redis(RedisProcess):
    """A Redis with its own port and folder, and additions to its environment and command line."""

    def __init__(self, folder: Path, environ: dict[str, str] | None = None, options: Sequence[str] = ()) -> None:
        self.folder = folder
        self.port = free_port()
        # The last option of a name counts.
        options = ["--port", str(self.port), "--bind", "127.0.0.1", "--unixsocket", "", *options]
        super().__init__(
            [*redis_server.command(DataDir(folder)), *options],
            connect(port=self.port, decode_responses=True),
            {**os.environ, **(environ or {})},
            partial(end_with_parent, signal.SIGKILL, parent=os.getpid()),
        )

    def start(self) -> None:
        DataDir(self.folder).redis.mkdir(parents=True, exist_ok=True)
        super().start()

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
