"""A real gunicorn with the real application, and a client that sends exact bytes."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from http.client import HTTPResponse
from pathlib import Path
from typing import Any

from tests.support import environment
from tests.support.ports import free_port
from tests.support.product import PATIENCE, children

ROOT = Path(__file__).parent.parent.parent


class Server:
    """gunicorn as in `make run`, with the tests' Redis and database. `settings` are environment variables."""

    def __init__(self, log: Path, **settings: str) -> None:
        self.port = free_port()
        environ = {
            **os.environ,
            "PORT": str(self.port),
            "DATABASE_URL": environment.database_url(),
            "DJANGO_SETTINGS_MODULE": "chatsystem.settings",
            **settings,
        }
        command = [sys.executable, "-m", "gunicorn", "--config", "python:chatsystem.embedded.gunicorn"]
        self.log = log
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                [*command, "chatsystem.wsgi"], env=environ, cwd=ROOT, stdout=output, stderr=output
            )
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                with Client(self.port) as client:
                    # HTTPS_ONLY requires the header of a proxy that terminates TLS.
                    alive = client.ask(request("GET", "/health/live", None, "X-Forwarded-Proto: https"))
                    assert alive.status == 200
                return
            except OSError:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    raise AssertionError(log.read_text()) from None
                time.sleep(0.05)

    def workers(self) -> set[int]:
        """Returns the process ids of the web processes."""
        return children(self.process.pid)

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(PATIENCE)


class Answer:
    """One response, read completely."""

    def __init__(self, response: HTTPResponse) -> None:
        self.status_code = self.status = response.status
        self.headers = response.headers
        self.content = response.read()

    def json(self) -> Any:
        return json.loads(self.content)


class Client:
    """One connection."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *args: object) -> None:
        self.socket.close()

    def ask(self, *pieces: bytes, method: str = "GET") -> Answer:
        """Sends the pieces and reads one answer. The server may stop reading early, but it has to answer."""
        try:
            for piece in pieces:
                self.socket.sendall(piece)
        except (BrokenPipeError, ConnectionResetError):
            pass
        return self.answer(method)

    def answer(self, method: str = "GET") -> Answer:
        # Unbuffered, or it would read part of the following answer.
        response = HTTPResponse(_Unbuffered(self.socket), method=method)  # type: ignore[arg-type]
        response.begin()
        return Answer(response)

    def finish(self) -> None:
        """Closes the connection for writing."""
        self.socket.shutdown(socket.SHUT_WR)

    def at_end(self) -> bool:
        """Returns whether the server has closed the connection without sending more."""
        try:
            return self.socket.recv(1) == b""
        except ConnectionResetError:
            return True


class _Unbuffered:
    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection

    def makefile(self, mode: str) -> Any:
        return self.connection.makefile(mode, buffering=0)


def request(method: str, path: str, content: bytes | None = None, *headers: str) -> bytes:
    """Returns a well-formed request. The body is JSON unless the headers name another type."""
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", *headers]
    named = {header.partition(":")[0].lower() for header in headers}
    if content is not None:
        if "content-type" not in named:
            lines.append("Content-Type: application/json")
        if not named & {"content-length", "transfer-encoding"}:
            lines.append(f"Content-Length: {len(content)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + (content or b"")


def chunked(content: bytes, size: int = 1000) -> bytes:
    pieces = [content[i : i + size] for i in range(0, len(content), size)]
    return b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
