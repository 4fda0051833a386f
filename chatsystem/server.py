"""The gunicorn worker: what it answers by itself, before Django sees a request, is JSON in the API's error shape."""

from __future__ import annotations

import json
import socket
import time
from http import HTTPStatus
from typing import Any

from gunicorn import util
from gunicorn.http.errors import (
    ExpectationFailed,
    InvalidResponseHeader,
    InvalidResponseHeaderName,
    LimitRequestHeaders,
    LimitRequestLine,
    ParseException,
)
from gunicorn.workers.gthread import TConn, ThreadWorker

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


class ApiWorker(ThreadWorker):
    def handle(self, conn: TConn) -> Any:
        keep_alive = super().handle(conn)
        if keep_alive is False:
            linger(conn.sock)
        return keep_alive

    def handle_error(self, req: Any, client: socket.socket, addr: Any, exc: Exception) -> None:
        """Neither the request line nor the exception's text is logged: both hold tokens."""
        status, kind, code, detail = answer_to(exc)
        if status < HTTPStatus.INTERNAL_SERVER_ERROR:
            self.log.info("Refused a request: %s", code)
        else:
            self.log.error("Error handling a request", exc_info=exc)
        try:
            util.write_nonblock(client, error_response(status, kind, code, detail))
        except OSError:
            self.log.debug("The client was gone before its error could be sent.")


def answer_to(exc: Exception) -> tuple[HTTPStatus, str, str, str]:
    """Status, type, code and detail."""
    if not isinstance(exc, SERVER_ERRORS):
        for kind, status, code, detail in CLIENT_ERRORS:
            if isinstance(exc, kind):
                return status, "client_error", code, detail
    return HTTPStatus.INTERNAL_SERVER_ERROR, "server_error", "error", "A server error occurred."


def error_response(status: HTTPStatus, kind: str, code: str, detail: str) -> bytes:
    body = json.dumps({"type": kind, "errors": [{"code": code, "detail": detail, "attr": None}]}).encode()
    head = (
        f"HTTP/1.1 {status.value} {status.phrase}\r\n"
        "Connection: close\r\n"
        "Content-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
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
