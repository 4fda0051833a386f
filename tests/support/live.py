"""A real live process on the tests' Redis and database, and a client that reads its streams."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from django.conf import settings as django_settings

from tests.support import environment
from tests.support.ports import free_port
from tests.support.product import PATIENCE, children, eventually
from tests.support.wire import Answer, Client, request

ROOT = Path(__file__).parent.parent.parent
STREAM = "Accept: text/event-stream"
POLL = "Accept: application/json"


class LiveServer:
    """gunicorn as in docker-compose.yml. `settings` are environment variables.

    `constants` are of live/: "streams.STALLED" → the value for this process. No stream is refused at its beginning
    because the machine stood still.
    """

    def __init__(self, log: Path, constants: Mapping[str, float] | None = None, **settings: str) -> None:
        self.log = log
        self.settings = settings
        self.config = log.with_suffix(".py")
        constants = {"streams.BEGIN_SECONDS": PATIENCE, **(constants or {})}
        changes = [f"    live.{name} = {value}\n" for name, value in constants.items()]
        self.config.write_text(
            "from live.gunicorn import *\n\ndef post_worker_init(worker):\n    import live.asgi\n" + "".join(changes)
        )
        self.port = free_port()
        self.start()

    def start(self) -> None:
        environ = {
            **os.environ,
            "DATABASE_URL": environment.database_url(),
            "DJANGO_SETTINGS_MODULE": "chatsystem.settings",
            "PYTHONUNBUFFERED": "1",
            # Tickets are signed with it.
            "SECRET_KEY": django_settings.SECRET_KEY,
            **self.settings,
        }
        command = [sys.executable, "-m", "gunicorn", "--config", str(self.config)]
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                [*command, "--bind", f"127.0.0.1:{self.port}", "live.asgi"],
                env=environ,
                cwd=ROOT,
                stdout=output,
                stderr=output,
            )
        eventually(self.is_ready)

    def is_ready(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        try:
            return self.ask("/health/ready").status == 200
        except OSError:
            return False

    def worker(self) -> int:
        """Returns the process that serves, once there is only one."""
        eventually(lambda: len(children(self.process.pid)) == 1)
        return children(self.process.pid).pop()

    def ask(self, path: str, *headers: str, method: str = "GET") -> Answer:
        with Client(self.port) as client:
            return client.ask(request(method, path, None, *headers), method=method)

    def poll(self, path: str, **params: object) -> Any:
        query = "&".join(f"{name}={value}" for name, value in params.items())
        answer = self.ask(f"{path}?{query}", POLL)
        assert answer.status == 200, answer.content
        return answer.json()

    def open(self, path: str, *headers: str) -> EventStream:
        return EventStream(self.port, path, *headers)

    @contextmanager
    def standing_still(self) -> Iterator[None]:
        pid = self.worker()
        os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(pid, signal.SIGCONT)

    def kill(self) -> None:
        """Kills both processes at once, like a machine that loses its power."""
        pids = [self.process.pid, *children(self.process.pid)]
        os.kill(self.process.pid, signal.SIGKILL)
        for pid in pids[1:]:
            os.kill(pid, signal.SIGKILL)
        self.process.wait()

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait(PATIENCE)


class Event(NamedTuple):
    """A frame. A heartbeat has only an id, and a hint only `retry`."""

    id: str = ""
    name: str = ""
    data: Any = None
    retry: int = 0

    @property
    def text(self) -> str:
        return str(self.data.get("body", self.data.get("title", self.name)))


class EventStream:
    """One stream, read frame by frame. It sends the request at once and reads nothing before it is asked."""

    def __init__(self, port: int, path: str, *headers: str) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
        self.socket.sendall(request("GET", path, None, *(headers or (STREAM,))))
        self.file = self.socket.makefile("rb")
        self.position = ""
        self.rest = b""
        self.head: bytes | None = None

    def read_head(self) -> bytes:
        """Returns status line and headers."""
        if self.head is None:
            lines = [self.file.readline()]
            while lines[-1] not in (b"\r\n", b""):
                lines.append(self.file.readline())
            self.head = b"".join(lines)
        return self.head

    def frames(self) -> Iterator[Event]:
        """Yields each frame until the stream ends."""
        head = self.read_head()
        assert head.startswith(b"HTTP/1.1 200"), head
        chunked = b"transfer-encoding: chunked" in head.lower()
        while True:
            while b"\n\n" in self.rest:
                frame, _, self.rest = self.rest.partition(b"\n\n")
                yield self._parsed(frame)
            if not (piece := self._chunk() if chunked else self.file.read1(65_536)):
                return
            self.rest += piece

    def _chunk(self) -> bytes:
        try:
            size = int(self.file.readline() or b"0", 16)
            piece = self.file.read(size + 2)
        except ConnectionResetError:
            return b""
        return piece[:-2] if len(piece) == size + 2 else b""

    def _parsed(self, frame: bytes) -> Event:
        fields = dict(line.split(": ", 1) for line in frame.decode().split("\n"))
        self.position = fields.get("id", self.position)
        data = fields.get("data")
        return Event(
            fields.get("id", ""),
            fields.get("event", ""),
            json.loads(data) if data is not None else None,
            int(fields.get("retry", 0)),
        )

    def next(self) -> Event:
        """Waits for the next event, and skips heartbeats and hints."""
        for event in self.frames():
            if event.name:
                return event
        raise AssertionError("the stream has ended")

    def until(self, text: str) -> list[str]:
        """Returns the texts of all events up to this one."""
        texts = [self.next().text]
        while texts[-1] != text:
            texts.append(self.next().text)
        return texts

    def begun(self) -> EventStream:
        """Waits until it shows everything from now on."""
        for event in self.frames():
            if event.id:
                return self
        raise AssertionError("the stream has ended")

    def events_for(self, most: int) -> Iterator[Event]:
        """Yields that many events, or fewer if the stream ends."""
        yield from islice((event for event in self.frames() if event.name), most)

    def to_the_end(self) -> list[Event]:
        return list(self.frames())

    def close(self) -> None:
        self.file.close()
        self.socket.close()


def rss(pid: int) -> int:
    """Returns the process's memory in bytes."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def settled(question: Any, seconds: float = 0.5) -> bool:
    """Returns whether the answer stays true for a while."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if not question():
            return False
        time.sleep(0.02)
    return True
