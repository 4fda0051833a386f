"""Starts, kills and inspects a product of `make run`, with real processes and ports."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import redis
import requests

from chatsystem.conf.data_dir import DataDir
from chatsystem.conf.database import MYSQL_OPTIONS
from chatsystem.writelog.keys import PARTITIONS, Keys
from tests.support.ports import free_port

BASE_DIR = Path(__file__).resolve().parent.parent.parent

#: Seconds for everything to be up or gone: many times what a busy machine needs.
PATIENCE = 120.0

#: For tests in which no request may be refused. The machine may stand still for ten seconds, and the product refuses a
#: request for which a server takes longer than these: its settings, and the options of its DATABASE_URL. The database
#: closes an idle connection after ten seconds too, also one whose request waits for Redis.
PATIENT = {"REDIS_TIMEOUT": "40"}


def patient_database(idle: int) -> str:
    """Returns the options of a DATABASE_URL whose connections may be idle for that many seconds."""
    waits = f"innodb_lock_wait_timeout=40, wait_timeout={idle}"
    options = {
        "init_command": f"{MYSQL_OPTIONS['init_command']}, {waits}",
        **dict.fromkeys(("connect_timeout", "read_timeout", "write_timeout"), 40),
    }
    return "?" + urlencode(options)


PATIENT_DATABASE = patient_database(idle=100)


def eventually(question: Callable[[], bool], within: float = PATIENCE, every: float = 0.02) -> float:
    """Asks until the answer is true, and returns the seconds that it took. Fails after `within` seconds.

    `every` is the pause between two questions, in seconds.
    """
    began = time.monotonic()
    while not question():
        assert time.monotonic() - began < within, f"not so within {within} s"
        time.sleep(every)
    return time.monotonic() - began


def processes(data_dir: Path) -> dict[int, str]:
    """Returns the command line of each running process of a DATA_DIR by process id, found by its environment."""
    mark = b"\0DATA_DIR=" + os.fsencode(data_dir) + b"\0"
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if mark in b"\0" + (folder / "environ").read_bytes() + b"\0":
                command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                if command and int(folder.name) != os.getpid():
                    found[int(folder.name)] = command
        except OSError:
            continue  # it has ended, or belongs to another user
    return found


def connections(pids: set[int], port: int) -> int:
    """Returns how many TCP connections to the port the processes have."""
    return len(sockets(pids) & {inode for _, remote, inode in established() if remote == port})


def established() -> list[tuple[int, int, str]]:
    """Returns local port, remote port and inode of each open TCP connection of this machine."""
    table = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return [(_port(row[1]), _port(row[2]), row[9]) for row in table if row[3] == "01"]


def _port(address: str) -> int:
    return int(address.rpartition(":")[2], 16)


def sockets(pids: set[int]) -> set[str]:
    """Returns the inodes of the processes' open sockets."""
    found = set()
    for pid in pids:
        for descriptor in Path(f"/proc/{pid}/fd").glob("*"):
            try:
                target = os.readlink(descriptor)
            except OSError:
                continue  # it has been closed meanwhile
            if target.startswith("socket:["):
                found.add(target.removeprefix("socket:[").removesuffix("]"))
    return found


def parent(pid: int) -> int:
    """Returns the parent's id, or 0 when the process has ended."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def children(pid: int) -> set[int]:
    return set(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))


class Product:
    """One `make run` without make, with its own PORT and DATA_DIR. `settings` are environment variables."""

    #: The checkout that it runs.
    tree = BASE_DIR
    python = sys.executable

    def __init__(self, data_dir: Path, port: int | None = None, settings: dict[str, str] | None = None) -> None:
        self.data_dir = data_dir
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.settings = settings or {}
        self.runner: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Starts it in the background. `ready` returns whether it answers."""
        self.runner = subprocess.Popen(
            [self.python, "-m", "chatsystem.embedded"],
            cwd=self.tree,
            env=self.environ(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def environ(self) -> dict[str, str]:
        # The tests' own settings must not leak into the product.
        inherited = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR") if name in os.environ}
        return {
            **inherited,
            "DATA_DIR": str(self.data_dir),
            "PORT": str(self.port),
            "WORKERS": "2",
            **self.settings,
        }

    def ready(self) -> bool:
        try:
            return requests.get(f"{self.url}/health/ready", timeout=20).status_code == 200
        except requests.RequestException:
            return False

    def states(self) -> dict[str, str]:
        """Returns the state of each dependency from /health/ready."""
        found: dict[str, str] = requests.get(f"{self.url}/health/ready", timeout=PATIENCE).json()["dependencies"]
        return found

    def wait_until_ready(self) -> float:
        return eventually(self.ready)

    def state_client(self) -> redis.Redis:
        """Returns a client of the product's embedded Redis. The caller closes it."""
        return redis.Redis(unix_socket_path=str(DataDir(self.data_dir).redis_socket))

    def wait_until_drained(self) -> None:
        """Waits until the log of the embedded Redis is empty."""
        with self.state_client() as client:
            wait_until_drained(client)

    def kill_everything(self) -> None:
        """Sends SIGKILL to all processes, the runner first so that it restarts nothing."""
        if self.runner is not None:
            self.runner.kill()
        while left := processes(self.data_dir):
            for pid in left:
                kill(pid)
        if self.runner is not None:
            self.runner.communicate()
            self.runner = None

    def stop(self, with_signal: signal.Signals = signal.SIGTERM) -> tuple[int, str]:
        """Stops the runner. Returns its exit code and its output."""
        assert self.runner is not None
        self.runner.send_signal(with_signal)
        output, _ = self.runner.communicate(timeout=PATIENCE)
        return self.runner.returncode, output

    def pids(self, words: str) -> set[int]:
        """Returns the processes whose command line contains the words."""
        return {pid for pid, command in processes(self.data_dir).items() if words in command}

    def signal(self, words: str, number: signal.Signals) -> None:
        """Sends a signal to all processes whose command line contains the words."""
        for pid in self.pids(words):
            send(pid, number)

    @contextmanager
    def standing_still(self, words: str) -> Iterator[None]:
        """Pauses all processes whose command line contains the words, parents first, during the `with` block."""

        def to_all(number: signal.Signals) -> None:
            mains = self.mains(words)
            for pid in sorted(self.pids(words), key=lambda pid: pid not in mains):
                send(pid, number)

        def stopped() -> bool:
            to_all(signal.SIGSTOP)
            # A process paused in a transaction, or while it closes SQLite's file, would keep the lock.
            if self._is_unlocked():
                return True
            to_all(signal.SIGCONT)
            return False

        eventually(stopped)
        try:
            yield
        finally:
            to_all(signal.SIGCONT)

    def _is_unlocked(self) -> bool:
        """Returns whether the SQLite file can be written. A database server has no such file."""
        file = DataDir(self.data_dir).database
        if not file.exists():
            return True
        with suppress(sqlite3.OperationalError), closing(sqlite3.connect(file, timeout=1)) as database:
            database.execute("BEGIN IMMEDIATE")
            return True
        return False

    def mains(self, words: str) -> set[int]:
        """Returns those of them that are not children of another."""
        found = self.pids(words)
        return {pid for pid in found if parent(pid) not in found}


def wait_until_drained(client: Any) -> None:
    """Waits until the log is empty. An event leaves it a moment after it was stored."""
    eventually(lambda: not any(client.xlen(Keys(partition).log) for partition in range(PARTITIONS)))


def kill(pid: int) -> None:
    send(pid, signal.SIGKILL)


def send(pid: int, number: signal.Signals) -> None:
    """Sends a signal, unless the process is gone."""
    with suppress(ProcessLookupError):
        os.kill(pid, number)
