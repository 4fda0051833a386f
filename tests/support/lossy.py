"""A TCP proxy to Redis that delays scripts and loses their answers."""

from __future__ import annotations

import select
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.product import PATIENCE


class LossyProxy:
    """Listens on a port and forwards everything to a Redis's Unix socket."""

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
        """Drops the answers to the next scripts, and closes their connections. Redis has executed the scripts."""
        with self.lock:
            self.losing, self.lost = answers, 0

    @contextmanager
    def holding(self) -> Iterator[None]:
        """Holds scripts back during the `with` block, and then forwards them, even when nobody waits any more."""
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
        """Forwards one command or pipeline after the other."""
        with client, socket.socket(socket.AF_UNIX) as redis:
            redis.settimeout(PATIENCE)
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
        """Waits for a command, and forwards the rest of a pipeline's answers. Returns whether Redis is gone."""
        while redis in select.select([client, redis], [], [])[0]:
            if not (rest := redis.recv(65_536)):
                return True
            client.sendall(rest)
        return False

    def _loses(self) -> bool:
        with self.lock:
            if self.losing:
                self.losing -= 1
                self.lost += 1
                return True
            return False
