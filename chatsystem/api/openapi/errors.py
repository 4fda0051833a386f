"""Describes each error status. Codes and details are read from the exceptions themselves."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any

from drf_standardized_errors.formatter import flatten_errors
from rest_framework import exceptions

from chatsystem.api import errors
from chatsystem.api.openapi.parameters import header, rate_limit, request_id
from chatsystem.api.query_params import invalid


@dataclass(frozen=True, slots=True)
class Error:
    """One entry of an error response."""

    code: str
    detail: str
    attr: str | None = None


def of(exception: exceptions.APIException) -> list[Error]:
    """Returns the entries that the exception is answered with."""
    return [Error(error.code, str(error.detail), error.attr) for error in flatten_errors(exception.detail)]


def of_server(status: int) -> list[Error]:
    """Returns the entries of what the server answers by itself, before Django sees the request."""
    # Imported here: the module imports gunicorn, which most commands do not need.
    from chatsystem.server.responses import CLIENT_ERRORS

    return [Error(answer.code, answer.detail) for _, answer in CLIENT_ERRORS if answer.status == status]


def of_bodies(attempts: Iterable[Callable[[], object]]) -> list[Error]:
    """Returns the entries of the ValidationErrors that these attempts to validate an invalid body raise."""
    found = []
    for attempt in attempts:
        try:
            attempt()
        except exceptions.ValidationError as error:
            found += of(error)
        else:
            raise AssertionError("the description lists a valid body as invalid")
    return found


#: On every route.
ANYWHERE = [Error("bad_request", "Bad request.")]
PARAMETERS = [
    *of(invalid("limit", "Give a whole number from 1 to 1000.")),
    *of(exceptions.ParseError("Bad request.")),
]
BODY = of(exceptions.ParseError("This is not JSON: Expecting value: line 1 column 1 (char 0)."))
IDEMPOTENCY_KEY = of(invalid("Idempotency-Key", "Give 1 to 255 printable ASCII characters."))

#: The server answers these before it has read the request, so without an X-Request-ID.
OF_SERVER = frozenset({400, 408, 413, 414, 417, 431, 503})

#: The component that all error statuses refer to.
ERROR = "Error"
SCHEMAS: dict[str, Any] = {
    ERROR: {
        "type": "object",
        "properties": {
            "type": {"type": "string", "enum": ["validation_error", "client_error", "server_error"]},
            "errors": {"type": "array", "minItems": 1, "items": {"$ref": "#/components/schemas/ErrorEntry"}},
        },
        "required": ["type", "errors"],
    },
    "ErrorEntry": {
        "type": "object",
        "properties": {
            "code": {"type": "string", "description": "Stable. Programs should use it."},
            "detail": {"type": "string", "description": "For people. It may change."},
            "attr": {
                "type": ["string", "null"],
                "description": "The invalid field, parameter or header of a `validation_error`.",
            },
        },
        "required": ["code", "detail", "attr"],
    },
}

RETRY_AFTER = header(
    "Retry-After", "Seconds to wait before repeating the request.", 1, schema={"type": "integer", "minimum": 1}
)
ALLOW = header("Allow", "The methods of this path.", "GET, POST, HEAD, OPTIONS")
AUTHENTICATE = header("WWW-Authenticate", "The scheme of the key.", errors.AdminKeyRequired.auth_header)


@dataclass(frozen=True, slots=True)
class Answer:
    """An error status of one kind of route. `name` is that of its component."""

    name: str
    description: str
    errors: list[Error]
    headers: dict[str, Any] | None = None

    def response(self, status: int) -> dict[str, Any]:
        """Returns the response object. Beside the common shape, it lists exactly the codes of this status here."""
        entry: dict[str, Any] = {"code": {"enum": sorted({error.code for error in self.errors})}}
        if not any(error.attr for error in self.errors):
            entry["attr"] = {"type": "null"}
        kinds = sorted({_kind(status, error) for error in self.errors})
        properties = {"type": {"enum": kinds}, "errors": {"items": {"properties": entry}}}
        examples: dict[str, Any] = {}
        for error in self.errors:
            name = f"{error.code} {error.attr}" if error.attr else error.code
            examples.setdefault(name, {"value": {"type": _kind(status, error), "errors": [asdict(error)]}})
        schema = {"$ref": f"#/components/schemas/{ERROR}", "properties": properties}
        return {
            "description": self.description,
            "headers": request_id(status not in OF_SERVER) | rate_limit(False) | (self.headers or {}),
            "content": {"application/json": {"schema": schema, "examples": examples}},
        }


def _kind(status: int, error: Error) -> str:
    if status >= 500:
        return "server_error"
    return "validation_error" if error.attr else "client_error"


def shared() -> dict[int, Answer]:
    """Returns the statuses that are the same on every route that has them."""
    return {
        401: Answer(
            "AdminKeyRequired",
            "`ADMIN_API_KEY` is set, and the request does not carry it.",
            of(errors.AdminKeyRequired()),
            AUTHENTICATE,
        ),
        404: Answer(
            "NotFound",
            "There is no such application, chat or message, or a token or number in the path is malformed. The response"
            " does not say which.",
            of(exceptions.NotFound()),
        ),
        405: Answer(
            "MethodNotAllowed", "Any other method on this path.", of(exceptions.MethodNotAllowed("PUT")), ALLOW
        ),
        406: Answer("NotAcceptable", "`Accept` excludes JSON. Nothing has been done.", of(exceptions.NotAcceptable())),
        408: Answer(
            "RequestTimeout",
            "The request took over 20 seconds to arrive, or paused for 10 seconds behind the proxy. The server closes"
            " the connection.",
            [Error("request_timeout", "The request took too long to arrive.")],
        ),
        412: Answer(
            "PreconditionFailed",
            "A read of another version than `If-Match` names, or a write with `If-Match` or `If-None-Match`.",
            of(errors.PreconditionFailed()),
        ),
        413: Answer("PayloadTooLarge", "The body is over 4 MB (4,194,304 bytes).", of(errors.PayloadTooLarge())),
        414: Answer(
            "RequestLineTooLong",
            "The request line is over 8,190 bytes. The server closes the connection.",
            of_server(414),
        ),
        415: Answer(
            "UnsupportedMediaType",
            "`Content-Type` is not JSON in UTF-8, or the request has a `Content-Encoding`.",
            of(exceptions.UnsupportedMediaType("text/plain")),
        ),
        417: Answer(
            "ExpectationFailed", "`Expect` is not `100-continue`. The server closes the connection.", of_server(417)
        ),
        422: Answer(
            "IdempotencyKeyReused",
            "The Idempotency-Key was used with another body, or on another route of the same application.",
            of(errors.IdempotencyKeyReused()),
        ),
        429: Answer(
            "RateLimited",
            "The application has exceeded its rate limit, where one is set. Nothing has been done.",
            [Error("rate_limited", "Too many requests of this application. Try again later.")],
            RETRY_AFTER | rate_limit(True),
        ),
        431: Answer(
            "HeadersTooLarge", "A header is over 8,190 bytes. The server closes the connection.", of_server(431)
        ),
        500: Answer("ServerFault", "A fault of the server.", [Error("error", "Server error.")]),
        503: Answer(
            "Unavailable",
            "`service_unavailable`: the request cannot be served now, and nothing has been done. `outcome_unknown`: no"
            " answer came in time. A write may have been accepted, or may still be. Repeat a POST with the same"
            " Idempotency-Key.",
            [*of(errors.ServiceUnavailable()), *of(errors.NoAnswer())],
            RETRY_AFTER,
        ),
    }
