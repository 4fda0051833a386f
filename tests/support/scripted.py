"""An HTTP server that answers as a test says, for the clients of streams."""

from __future__ import annotations

import json
import queue
import select
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit


@dataclass(frozen=True)
class Answer:
    body: str = ""
    status: int = 200
    headers: dict[str, str] = field(default_factory=lambda: {"Content-Type": "text/event-stream"})
    #: What follows the body: "end" of the response, a "cut" connection, or "hold": nothing, until the test ends.
    then: str = "end"


@dataclass(frozen=True)
class Asked:
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: str
    #: Seconds of the monotonic clock.
    at: float


def frame(position: str, event: str = "", data: dict[str, Any] | None = None) -> str:
    """Returns a frame of a stream; a heartbeat if it has no event."""
    return f"id: {position}\n" + (f"event: {event}\ndata: {json.dumps(data)}\n\n" if event else "\n")


def as_json(content: Any, status: int = 200, **headers: str) -> Answer:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(json.dumps(content), status, {"Content-Type": "application/json", **named})


def error(status: int, code: str, **headers: str) -> Answer:
    return as_json({"errors": [{"code": code, "detail": "Refused.", "attr": None}]}, status, **headers)


class Scripted:
    def __init__(self, url: str) -> None:
        self.url = url
        #: The answers to requests for events, in order. Who asks for one that is not there yet waits for it.
        self.events: queue.Queue[Answer] = queue.Queue()
        #: The answers to all other requests, by path.
        self.pages: dict[str, Answer] = {}
        self.asked: list[Asked] = []
        #: How many clients closed a connection that was held.
        self.gone = 0
        self.ended = threading.Event()

    def script(self, *answers: Answer) -> None:
        for answer in answers:
            self.events.put(answer)

    def to(self, suffix: str) -> list[Asked]:
        """Returns the requests for paths that end so."""
        return [asked for asked in self.asked if asked.path.endswith(suffix)]

    def next_answer(self) -> Answer:
        while not self.ended.is_set():
            try:
                return self.events.get(timeout=0.05)
            except queue.Empty:
                continue
        return Answer(then="cut")


@contextmanager
def scripted() -> Iterator[Scripted]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
            query = {name: values[0] for name, values in parse_qs(parts.query).items()}
            server.asked.append(Asked(parts.path, query, dict(self.headers), body, time.monotonic()))
            if parts.path.endswith("/events"):
                self.answer(server.next_answer())
            else:
                self.answer(server.pages.get(parts.path) or error(404, "not_found"))

        do_POST = do_GET

        def answer(self, answer: Answer) -> None:
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            # In two pieces: whoever reads sees half a line first.
            half = len(answer.body) // 2
            for piece in (answer.body[:half].encode(), answer.body[half:].encode()):
                if piece:
                    self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
                    self.wfile.flush()
            if answer.then == "hold":
                self.hold()
            if answer.then == "end":
                self.wfile.write(b"0\r\n\r\n")
            else:
                self.close_connection = True

        def hold(self) -> None:
            while not server.ended.is_set():
                if select.select([self.connection], [], [], 0.05)[0]:
                    server.gone += 1
                    return

        def log_message(self, *args: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *args: Any) -> None:
            """A client that goes away in the middle is what the tests are about."""

    http = Server(("127.0.0.1", 0), Handler)
    server = Scripted(f"http://127.0.0.1:{http.server_address[1]}")
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.ended.set()
        http.shutdown()
        thread.join()
        http.server_close()
