"""Where the embedded profile keeps its files. Documented in docs/operations.md."""

from __future__ import annotations

import hashlib
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

#: A Unix socket's path has to fit sockaddr_un.sun_path: 108 bytes on Linux, the closing NUL included.
MAX_SOCKET_PATH = 100


@dataclass(frozen=True)
class DataDir:
    """The layout of one DATA_DIR. Two of them never share a path."""

    root: Path

    @property
    def database(self) -> Path:
        return self.root / "chat.sqlite3"

    @property
    def search_index(self) -> Path:
        return self.root / "search.sqlite3"

    @property
    def secret_key(self) -> Path:
        return self.root / "secret_key"

    @property
    def redis(self) -> Path:
        return self.root / "redis"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def run(self) -> Path:
        """Sockets, locks and generated configuration: nothing in it outlives the processes."""
        return self.root / "run"

    @property
    def metrics(self) -> Path:
        """What the web processes count of their requests (request_metrics.py)."""
        return self.run / "metrics"

    @property
    def redis_socket(self) -> Path:
        """The state Redis's Unix socket: in DATA_DIR, or in the temporary folder when that path is too long for one."""
        socket = self.run / "redis.sock"
        if len(os.fsencode(socket)) <= MAX_SOCKET_PATH:
            return socket
        digest = hashlib.sha256(os.fsencode(self.root)).hexdigest()[:16]
        return Path(tempfile.gettempdir()) / f"chatsystem-{os.getuid()}-{digest}" / "redis.sock"
