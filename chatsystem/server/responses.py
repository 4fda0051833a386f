"""The errors that the web server answers by itself, in the API's error shape. Documented in docs/api.md.

gunicorn would answer them in HTML, or close the connection without an answer.
"""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import NamedTuple

from gunicorn.http.errors import (
    ExpectationFailed,
    InvalidResponseHeader,
    InvalidResponseHeaderName,
    LimitRequestHeaders,
    LimitRequestLine,
    ParseException,
)


class ErrorResponse(NamedTuple):
    status: int
    code: str
    detail: str
    #: Header lines beside those of every error.
    headers: tuple[str, ...] = ()

    @property
    def is_server_error(self) -> bool:
        return self.status >= 500

    def encode(self) -> bytes:
        """Returns the whole response as bytes. The connection closes after it."""
        kind = "server_error" if self.is_server_error else "client_error"
        body = json.dumps({"type": kind, "errors": [{"code": self.code, "detail": self.detail, "attr": None}]}).encode()
        lines = [
            f"HTTP/1.1 {self.status} {HTTPStatus(self.status).phrase}",
            "Connection: close",
            "Content-Type: application/json",
            "X-Content-Type-Options: nosniff",
            f"Content-Length: {len(body)}",
            *self.headers,
        ]
        return "\r\n".join([*lines, "", ""]).encode() + body


#: The parser's exceptions for what a client did wrong. The first matching entry counts.
CLIENT_ERRORS: list[tuple[type[Exception], ErrorResponse]] = [
    (LimitRequestLine, ErrorResponse(414, "request_line_too_long", "The request line is too long.")),
    (LimitRequestHeaders, ErrorResponse(431, "headers_too_large", "A header is too long, or there are too many.")),
    (ExpectationFailed, ErrorResponse(417, "expectation_failed", "Only 100-continue can be expected.")),
    (ParseException, ErrorResponse(400, "malformed_request", "This is not an HTTP request.")),
]
#: Subclasses of ParseException that mean a fault of ours: gunicorn could not send the application's response.
SERVER_ERRORS = (InvalidResponseHeader, InvalidResponseHeaderName)

REQUEST_TIMEOUT = ErrorResponse(408, "request_timeout", "The request took too long to arrive.")
TOO_MANY_REQUESTS = ErrorResponse(
    503, "service_unavailable", "Too many requests are under way. Try again.", ("Retry-After: 1",)
)
SERVER_ERROR = ErrorResponse(500, "error", "A server error occurred.")


def response_to(error: Exception) -> ErrorResponse:
    """Returns the response to an exception of gunicorn's parser or of the application."""
    if not isinstance(error, SERVER_ERRORS):
        for kind, response in CLIENT_ERRORS:
            if isinstance(error, kind):
                return response
    return SERVER_ERROR
