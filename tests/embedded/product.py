"""Starting, killing and looking at a product that `make run` runs: real processes, real ports."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import requests

BASE_DIR = Path(__file__).resolve().parent.parent.parent

#: Seconds in which everything is up or gone; far more than it takes.
PATIENCE = 40.0


def eventually(question: Callable[[], bool], within: float = PATIENCE) -> float:
    """Asks until the answer is yes and returns the seconds it took; fails after `within` seconds."""
    began = time.monotonic()
    while not question():
        assert time.monotonic() - began < within, f"not so within {within} s"
        time.sleep(0.02)
    return time.monotonic() - began


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def processes(data_dir: Path) -> dict[int, str]:
    """Every living process of a DATA_DIR, by its environment: process id and command line."""
    mark = b"\0DATA_DIR=" + os.fsencode(data_dir) + b"\0"
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if mark in b"\0" + (folder / "environ").read_bytes() + b"\0":
                command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                if command and int(folder.name) != os.getpid():
                    found[int(folder.name)] = command
        except OSError:
            continue  # it ended, or belongs to somebody else
    return found


def connections(pids: set[int], port: int) -> int:
    """How many TCP connections to the port the processes have open."""
    return len(sockets(pids) & {inode for _, remote, inode in established() if remote == port})


def established() -> list[tuple[int, int, str]]:
    """Local port, remote port and inode of every TCP connection of this machine that is open."""
    table = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return [(_port(row[1]), _port(row[2]), row[9]) for row in table if row[3] == "01"]


def _port(address: str) -> int:
    return int(address.rpartition(":")[2], 16)


def sockets(pids: set[int]) -> set[str]:
    """The inodes of the sockets that the processes have open."""
    found = set()
    for pid in pids:
        for descriptor in Path(f"/proc/{pid}/fd").glob("*"):
            try:
                target = os.readlink(descriptor)
            except OSError:
                continue  # it was closed meanwhile
            if target.startswith("socket:["):
                found.add(target.removeprefix("socket:[").removesuffix("]"))
    return found


def parent(pid: int) -> int:
    """0 for a process that has ended."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def children(pid: int) -> set[int]:
    return set(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))


class Product:
    """One `make run`, without the make: PORT and DATA_DIR of its own, and `settings` as the user sets them."""

    def __init__(self, data_dir: Path, port: int | None = None, settings: dict[str, str] | None = None) -> None:
        self.data_dir = data_dir
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.settings = settings or {}
        self.runner: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Starts it in the background; ready() tells when it answers."""
        self.runner = subprocess.Popen(
            [sys.executable, "-m", "chatsystem.embedded"],
            cwd=BASE_DIR,
            env=self.environ(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def environ(self) -> dict[str, str]:
        # The settings of the tests themselves must not leak into the product.
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
            return requests.get(f"{self.url}/health/ready", timeout=5).status_code == 200
        except requests.RequestException:
            return False

    def states(self) -> dict[str, str]:
        """Each dependency's, as readiness tells them."""
        found: dict[str, str] = requests.get(f"{self.url}/health/ready", timeout=20).json()["dependencies"]
        return found

    def wait_until_ready(self) -> float:
        return eventually(self.ready)

    def kill_everything(self) -> None:
        """SIGKILL to all of it at once, the runner first so that nothing is started again."""
        if self.runner is not None:
            self.runner.kill()
        while left := processes(self.data_dir):
            for pid in left:
                kill(pid)
        if self.runner is not None:
            self.runner.communicate()
            self.runner = None

    def stop(self, with_signal: signal.Signals = signal.SIGTERM) -> tuple[int, str]:
        """Asks the runner to stop; its exit code and what it printed."""
        assert self.runner is not None
        self.runner.send_signal(with_signal)
        output, _ = self.runner.communicate(timeout=PATIENCE)
        return self.runner.returncode, output

    def pids(self, words: str) -> set[int]:
        """Processes whose command line holds the words."""
        return {pid for pid, command in processes(self.data_dir).items() if words in command}

    def signal(self, words: str, number: signal.Signals) -> None:
        """To all processes whose command line holds the words."""
        for pid in self.pids(words):
            send(pid, number)

    def mains(self, words: str) -> set[int]:
        """Those of them that are not children of another."""
        found = self.pids(words)
        return {pid for pid in found if parent(pid) not in found}


def kill(pid: int) -> None:
    send(pid, signal.SIGKILL)


def send(pid: int, number: signal.Signals) -> None:
    """A process that is gone already needs no signal."""
    with suppress(ProcessLookupError):
        os.kill(pid, number)
