"""A connection to Redis that holds scripts up and loses their answers: what a network does at the worst moment."""

from __future__ import annotations

import select
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class LossyProxy:
    """Listens on a port and passes everything on to a Redis's Unix socket."""

    def __init__(self, redis_socket: Path) -> None:
        self.redis_socket = redis_socket
        self.server = socket.create_server(("127.0.0.1", 0))
        self.url = f"redis://127.0.0.1:{self.server.getsockname()[1]}/0"
        self.losing = 0
        self.lost = 0
        #: How many scripts it has been asked to pass on since it holds them up.
        self.held = 0
        self.passing = threading.Event()
        self.passing.set()
        self.lock = threading.Lock()
        threading.Thread(target=self._serve, daemon=True).start()

    def lose(self, answers: int) -> None:
        """The answers to the next so many scripts are lost, and their connections end. Redis has done what they ask."""
        with self.lock:
            self.losing, self.lost = answers, 0

    @contextmanager
    def holding(self) -> Iterator[None]:
        """Scripts are passed on only after this, whether or not somebody still waits for their answers."""
        self.held = 0
        self.passing.clear()
        try:
            yield
        finally:
            self.passing.set()

    def close(self) -> None:
        self.server.close()

    def _serve(self) -> None:
        while True:
            try:
                accepted, _ = self.server.accept()
            except OSError:
                return
            threading.Thread(target=self._connect, args=(accepted,), daemon=True).start()

    def _connect(self, client: socket.socket) -> None:
        """One command and its answer after the other, as redis-py sends them outside pipelines."""
        with client, socket.socket(socket.AF_UNIX) as redis:
            redis.settimeout(10)
            try:
                redis.connect(str(self.redis_socket))
                while not self._ended(client, redis) and (command := client.recv(65_536)):
                    script = b"EVALSHA" in command
                    if script and not self.passing.is_set():
                        self.held += 1
                        self.passing.wait()
                    redis.sendall(command)
                    answer = redis.recv(65_536)
                    if script and not answer.startswith(b"-NOSCRIPT") and self._loses():
                        return
                    client.sendall(answer)
            except OSError:
                return

    @staticmethod
    def _ended(client: socket.socket, redis: socket.socket) -> bool:
        """Waits for a command. What Redis says meanwhile is that it is gone."""
        readable, _, _ = select.select([client, redis], [], [])
        return redis in readable

    def _loses(self) -> bool:
        with self.lock:
            if self.losing:
                self.losing -= 1
                self.lost += 1
                return True
            return False
