"""The layout of DATA_DIR, where the embedded profile keeps its files. Documented in docs/settings.md."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from chatsystem.conf.startup import StartupError

BASE_DIR = Path(__file__).resolve().parent.parent.parent

#: Maximum bytes of a Unix socket's path. sockaddr_un.sun_path has 108 bytes on Linux, including the final NUL.
MAX_SOCKET_PATH = 100
#: The folder for a socket whose path would be too long. Not TMPDIR: it may be long too, and may differ in the shell
#: where somebody types a command for the running product.
TEMPORARY = Path("/tmp")


@dataclass(frozen=True)
class DataDir:
    """The paths below one DATA_DIR. Two DATA_DIRs never share a path."""

    root: Path

    @classmethod
    def from_environ(cls) -> DataDir:
        """Returns the folder that DATA_DIR names, or else `data` in the project."""
        # Not stripped: the folder's name may begin or end with a blank.
        named = os.environ.get("DATA_DIR", "")
        try:
            return cls((Path(named).expanduser() if named.strip() else BASE_DIR / "data").resolve())
        except (RuntimeError, OSError, ValueError) as error:
            raise StartupError(f"DATA_DIR is {named!r}, which is not a path ({error}); set it to a folder.") from None

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
        """Sockets, locks and pid files, which are only of use while the processes run."""
        return self.root / "run"

    @property
    def metrics(self) -> Path:
        """The request metrics of the web processes (request_metrics.py)."""
        return self.run / "metrics"

    @property
    def redis_socket(self) -> Path:
        """The Unix socket of the state Redis."""
        return self._socket("redis.sock")

    @property
    def live_socket(self) -> Path:
        """The Unix socket through which web processes hand connections to the live process of their host."""
        return self._socket("live.sock")

    def _socket(self, name: str) -> Path:
        """Returns a path in DATA_DIR, or in TEMPORARY when that path would be too long."""
        socket = self.run / name
        # As long as the longest name of a socket, so that all are in one folder.
        if len(os.fsencode(self.run / "redis.sock")) <= MAX_SOCKET_PATH:
            return socket
        digest = hashlib.sha256(os.fsencode(self.root)).hexdigest()[:16]
        return TEMPORARY / f"chatsystem-{os.getuid()}-{digest}" / name
