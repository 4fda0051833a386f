"""The gunicorn worker: applications take turns, and what it answers by itself is JSON in the API's error shape.

Turns are documented in docs/write-log.md.
"""

from __future__ import annotations

import gc
import json
import re
import socket
import sys
import time
from concurrent.futures import Future, ThreadPoolExecutor
from http import HTTPStatus
from typing import Any

from gunicorn import util
from gunicorn.http import wsgi
from gunicorn.http.errors import (
    ExpectationFailed,
    InvalidResponseHeader,
    InvalidResponseHeaderName,
    LimitRequestHeaders,
    LimitRequestLine,
    ParseException,
)
from gunicorn.workers.gthread import _DEFER, TConn, ThreadWorker

from chatsystem import request_metrics, spread
from chatsystem.logs.redaction import without_values
from chatsystem.turns import Turns

#: What gunicorn makes of a connection on which nothing has arrived: back to the poller, without a thread.
DEFERRED: Future[Any] = Future()
DEFERRED.set_result(_DEFER)

#: What a client did wrong: the first entry that its exception is an instance of.
CLIENT_ERRORS: list[tuple[type[Exception], HTTPStatus, str, str]] = [
    (LimitRequestLine, HTTPStatus.REQUEST_URI_TOO_LONG, "request_line_too_long", "The request line is too long."),
    (
        LimitRequestHeaders,
        HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
        "headers_too_large",
        "A header is too long, or there are too many.",
    ),
    (ExpectationFailed, HTTPStatus.EXPECTATION_FAILED, "expectation_failed", "Only 100-continue can be expected."),
    (ParseException, HTTPStatus.BAD_REQUEST, "malformed_request", "This is not an HTTP request."),
]
#: They descend from ParseException, but it is our own answer that gunicorn could not send.
SERVER_ERRORS = (InvalidResponseHeader, InvalidResponseHeaderName)

#: How long an answered client may go on sending what nobody reads: bytes, seconds in all, seconds of silence.
LINGER_BYTES = 64 * 1024 * 1024
LINGER_SECONDS = 10.0
LINGER_SILENCE = 2.0


#: Seconds for which a thread may keep the interpreter when another wants it. A request asks for it some five times, and
#: each time waits that long for every other that computes: Python's own 5 ms would be the p99 beside a flood.
SWITCH_INTERVAL = 0.001

#: Seconds for which a process leaves a connection to one that holds fewer. Longer than that one needs to wake up.
HEAD_START = 0.002

#: Whose a request is: its application's, or that of the other routes with the same beginning.
PARTY = re.compile(rb"\S+ /(applications/[0-9a-f]{32}|[a-z]*)")
#: Bytes of a request that tell it.
PARTY_BYTES = 64


class Parts:
    """Takes what gunicorn would send."""

    def __init__(self) -> None:
        self.sent = bytearray()

    def sendall(self, data: bytes) -> None:
        self.sent += data


class WholeResponse(wsgi.Response):
    """Sends an answer's head together with its body.

    Of a process that is killed between the two a proxy has passed on the head, and can send the request to no other.
    """

    def __init__(self, req: Any, sock: socket.socket, cfg: Any) -> None:
        super().__init__(req, Parts(), cfg)
        self.client = sock

    def write(self, arg: bytes) -> None:
        super().write(arg)
        self.flush()

    def close(self) -> None:
        super().close()
        self.flush()

    def flush(self) -> None:
        if self.sock.sent:
            self.client.sendall(self.sock.sent)
            self.sock.sent.clear()

    def can_sendfile(self) -> bool:
        return False


class ApiWorker(ThreadWorker):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        threads = self.cfg.threads
        self.turns: Turns[TConn] = Turns(threads, share=max(threads // 4, 1), room=self.worker_connections // 4)
        #: Of the connections whose request is under way.
        self.parties: dict[TConn, str] = {}
        #: Beside the threads that answer: to refuse needs none of theirs, and who is slow to go keeps nobody waiting.
        self.refusals = ThreadPoolExecutor(max_workers=1)

    def init_process(self) -> None:
        sys.setswitchinterval(SWITCH_INTERVAL)
        # gunicorn has no setting for it.
        wsgi.Response = WholeResponse
        super().init_process()

    def load_wsgi(self) -> None:
        super().load_wsgi()
        # A collection that walked through all of Django would stop every thread for a tenth of a second. What a large
        # batch allocates is enough to set one off.
        gc.collect()
        gc.freeze()

    # The next five run on the main loop, one after the other.

    def wait_for_and_dispatch_events(self, timeout: float) -> None:
        spread.tell(self.age, self.nr_conns if self._accepting else None)
        super().wait_for_and_dispatch_events(timeout)

    def accept(self, listener: socket.socket) -> None:
        if spread.is_another_freer(self.age):
            # That one may hang: so what is still there afterwards is taken. gunicorn does not mind when nothing is.
            time.sleep(HEAD_START)
        super().accept(listener)

    def enqueue_req(self, conn: TConn) -> None:
        """Gives a connection whose request has begun to arrive a place in its party's line."""
        begun = beginning(conn)
        if begun is None:
            self.finish_request(conn, DEFERRED)
            return
        conn.arrived = time.perf_counter()
        found = PARTY.match(begun)
        if self.turns.wait(found[1].decode() if found else "", conn):
            self.take_turns()
        else:
            refusal = self.refusals.submit(refuse, conn)
            refusal.add_done_callback(lambda done: self.method_queue.defer(self.finish_request, conn, done))

    def take_turns(self) -> None:
        while turn := self.turns.next():
            party, conn = turn
            self.parties[conn] = party
            super().enqueue_req(conn)

    def finish_request(self, conn: TConn, fs: Future[Any]) -> None:
        party = self.parties.pop(conn, None)
        if party is not None:
            self.turns.done(party)
        super().finish_request(conn, fs)
        self.take_turns()

    def handle(self, conn: TConn) -> Any:
        keep_alive = super().handle(conn)
        if keep_alive is False:
            linger(conn.sock)
        return keep_alive

    def handle_request(self, req: Any, conn: TConn) -> Any:
        req.arrived = conn.arrived
        return super().handle_request(req, conn)

    def count(self, req: Any, environ: dict[str, Any], resp: Any) -> None:
        """Called when a request was answered, or failed: without a status `handle_error` answers, and counts."""
        if resp is not None and resp.status_code is not None:
            seconds = time.perf_counter() - req.arrived
            request_metrics.observe(environ.get(request_metrics.MATCH), req.method, resp.status_code, seconds)

    def handle_error(self, req: Any, client: socket.socket, addr: Any, exc: Exception) -> None:
        """Neither the request line nor the exception's text is logged: both hold tokens."""
        status, kind, code, detail = answer_to(exc)
        if status < HTTPStatus.INTERNAL_SERVER_ERROR:
            self.log.info("Refused a request: %s", code)
        else:
            self.log.error("Error handling a request:\n%s", without_values(exc))
        # Refused as soon as it was read.
        request_metrics.observe(None, "" if req is None else req.method, status, 0.0)
        try:
            util.write_nonblock(client, error_response(status, kind, code, detail))
        except OSError:
            self.log.debug("The client was gone before its error could be sent.")


def beginning(conn: TConn) -> bytes | None:
    """What is there of the connection's next request, at most PARTY_BYTES; None while nothing is. Never waits."""
    if conn.initialized and (read_ahead := conn.parser.unreader.buf.getvalue()):
        return bytes(read_ahead[:PARTY_BYTES])
    try:
        return conn.sock.recv(PARTY_BYTES, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return None
    except OSError:
        # It broke: whoever handles it will see.
        return b""


def refuse(conn: TConn) -> bool:
    """Answers 503 without reading the request, and ends the connection: so says the False that it returns."""
    busy = "Too many requests of this application wait to be answered. Try again."
    unavailable = error_response(
        HTTPStatus.SERVICE_UNAVAILABLE, "server_error", "service_unavailable", busy, "Retry-After: 1"
    )
    request_metrics.observe(None, "", HTTPStatus.SERVICE_UNAVAILABLE, time.perf_counter() - conn.arrived)
    conn.sock.setblocking(True)
    conn.sock.sendall(unavailable)
    linger(conn.sock)
    return False


def answer_to(exc: Exception) -> tuple[HTTPStatus, str, str, str]:
    """Status, type, code and detail."""
    if not isinstance(exc, SERVER_ERRORS):
        for kind, status, code, detail in CLIENT_ERRORS:
            if isinstance(exc, kind):
                return status, "client_error", code, detail
    return HTTPStatus.INTERNAL_SERVER_ERROR, "server_error", "error", "A server error occurred."


def error_response(status: HTTPStatus, kind: str, code: str, detail: str, *headers: str) -> bytes:
    body = json.dumps({"type": kind, "errors": [{"code": code, "detail": detail, "attr": None}]}).encode()
    head = (
        f"HTTP/1.1 {status.value} {status.phrase}\r\n"
        "Connection: close\r\n"
        "Content-Type: application/json\r\n"
        "X-Content-Type-Options: nosniff\r\n"
        f"Content-Length: {len(body)}\r\n" + "".join(f"{header}\r\n" for header in headers) + "\r\n"
    )
    return head.encode() + body


def linger(client: socket.socket) -> None:
    """Reads what a client still sends after its answer, up to the limits, and throws it away.

    A socket closed with unread bytes is reset by the kernel, and the client loses an answer that it had not read yet:
    it would see a broken connection in place of the 413. gunicorn does the same for 64 KB, on the thread that accepts.
    """
    deadline = time.monotonic() + LINGER_SECONDS
    read = 0
    try:
        client.shutdown(socket.SHUT_WR)
        while read < LINGER_BYTES and (left := deadline - time.monotonic()) > 0:
            client.settimeout(min(left, LINGER_SILENCE))
            received = client.recv(65_536)
            if not received:
                break
            read += len(received)
        # Nothing is left to wait for when gunicorn closes it.
        client.shutdown(socket.SHUT_RDWR)
    except OSError:
        # Closed, silent for too long, or never connected: there is nobody to read the answer.
        return
