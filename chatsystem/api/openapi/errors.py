"""What each error status says, as the description tells it: the exceptions themselves are asked for code and detail."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any

from drf_standardized_errors.formatter import flatten_errors
from rest_framework import exceptions

from chatsystem.api import errors
from chatsystem.api.openapi.parameters import rate_limit, request_id
from chatsystem.api.params import invalid


@dataclass(frozen=True, slots=True)
class Error:
    """One entry of an error's answer."""

    code: str
    detail: str
    attr: str | None = None


def of(exception: exceptions.APIException) -> list[Error]:
    return [Error(error.code, str(error.detail), error.attr) for error in flatten_errors(exception.detail)]


def of_server(status: int) -> list[Error]:
    """What the server answers by itself, before Django sees the request."""
    # Not above: it imports gunicorn, which a command that never describes anything has no use for.
    from chatsystem.server import CLIENT_ERRORS

    return [Error(code, detail) for _, answered, code, detail in CLIENT_ERRORS if answered == status]


def of_bodies(refusals: Iterable[Callable[[], object]]) -> list[Error]:
    """What wrong bodies are told, by having them refused."""
    found = []
    for refuse in refusals:
        try:
            refuse()
        except exceptions.ValidationError as refused:
            found += of(refused)
        else:
            raise AssertionError("a body that the description calls wrong was accepted")
    return found


#: Any route, whatever it is asked.
ANYWHERE = [Error("bad_request", "Bad request.")]
PARAMETERS = [
    *of(invalid("limit", "Give a whole number from 1 to 1000.")),
    *of(exceptions.ParseError("Bad request.")),
]
BODY = of(exceptions.ParseError("This is not JSON: Expecting value: line 1 column 1 (char 0)."))
IDEMPOTENCY_KEY = of(invalid("Idempotency-Key", "Give 1 to 255 printable ASCII characters."))

#: Statuses that the server may answer by itself: without an X-Request-ID, as it has not read the request.
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
            "code": {"type": "string", "description": "Stable; what a program looks at."},
            "detail": {"type": "string", "description": "For people; may change."},
            "attr": {
                "type": ["string", "null"],
                "description": "The field, parameter or header that is wrong, of a `validation_error`.",
            },
        },
        "required": ["code", "detail", "attr"],
    },
}

RETRY_AFTER = {
    "Retry-After": {
        "description": "Seconds to wait before the request is repeated.",
        "required": True,
        "schema": {"type": "integer", "minimum": 1},
        "example": 1,
    }
}
ALLOW = {
    "Allow": {
        "description": "The methods that this path takes.",
        "required": True,
        "schema": {"type": "string"},
        "example": "GET, POST, HEAD, OPTIONS",
    }
}
AUTHENTICATE = {
    "WWW-Authenticate": {
        "description": "The scheme of the key.",
        "required": True,
        "schema": {"type": "string"},
        "example": errors.AdminKeyRequired.auth_header,
    }
}


@dataclass(frozen=True, slots=True)
class Answer:
    """An error status of one kind of route."""

    #: Of its component.
    name: str
    description: str
    errors: list[Error]
    headers: dict[str, Any] | None = None

    def response(self, status: int) -> dict[str, Any]:
        content = {"application/json": {"schema": self._schema(status), "examples": self._examples(status)}}
        headers = request_id(status not in OF_SERVER) | rate_limit(False) | (self.headers or {})
        return {"description": self.description, "headers": headers, "content": content}

    def _schema(self, status: int) -> dict[str, Any]:
        """The one shape, and beside it the codes that this status can have here: no other."""
        entry: dict[str, Any] = {"code": {"enum": sorted({error.code for error in self.errors})}}
        if not any(error.attr for error in self.errors):
            entry["attr"] = {"type": "null"}
        kinds = sorted({self._kind(status, error) for error in self.errors})
        properties = {"type": {"enum": kinds}, "errors": {"items": {"properties": entry}}}
        return {"$ref": f"#/components/schemas/{ERROR}", "properties": properties}

    def _examples(self, status: int) -> dict[str, Any]:
        """One for each code and what it is said of; errors of other elements of the same batch are left out."""
        found: dict[str, Any] = {}
        for error in self.errors:
            name = f"{error.code} {error.attr}" if error.attr else error.code
            found.setdefault(name, {"value": {"type": self._kind(status, error), "errors": [asdict(error)]}})
        return found

    @staticmethod
    def _kind(status: int, error: Error) -> str:
        if status >= 500:
            return "server_error"
        return "validation_error" if error.attr else "client_error"


def shared() -> dict[int, Answer]:
    """Those that are the same on every route that has them."""
    return {
        401: Answer(
            "AdminKeyRequired",
            "`ADMIN_API_KEY` is set, and the request does not bear it.",
            of(errors.AdminKeyRequired()),
            AUTHENTICATE,
        ),
        404: Answer(
            "NotFound",
            "No such application, chat or message, or a token or number that is none. It does not tell which.",
            of(exceptions.NotFound()),
        ),
        405: Answer(
            "MethodNotAllowed",
            "Of the other methods on this path.",
            of(exceptions.MethodNotAllowed("PUT")),
            ALLOW,
        ),
        406: Answer("NotAcceptable", "`Accept` takes no JSON. Nothing has been done.", of(exceptions.NotAcceptable())),
        408: Answer(
            "RequestTimeout",
            "Behind the proxy: the request took too long to arrive.",
            [Error("request_timeout", "The request took too long to arrive.")],
        ),
        413: Answer("PayloadTooLarge", "More than 4 MB (4,194,304 bytes).", of(errors.PayloadTooLarge())),
        414: Answer("RequestLineTooLong", "More than 8,190 bytes. The connection ends.", of_server(414)),
        415: Answer(
            "UnsupportedMediaType",
            "`Content-Type` is not `application/json`, or names another charset than UTF-8.",
            of(exceptions.UnsupportedMediaType("text/plain")),
        ),
        417: Answer("ExpectationFailed", "`Expect` is not `100-continue`. The connection ends.", of_server(417)),
        422: Answer(
            "IdempotencyKeyReused",
            "The Idempotency-Key was used with another body, or on another route of the same application.",
            of(errors.IdempotencyKeyReused()),
        ),
        429: Answer(
            "RateLimited",
            "Where an application's requests are limited: this was one too many. Nothing has happened.",
            [Error("rate_limited", "Too many requests of this application. Try again later.")],
            RETRY_AFTER | rate_limit(True),
        ),
        431: Answer("HeadersTooLarge", "A header of more than 8,190 bytes. The connection ends.", of_server(431)),
        500: Answer("ServerFault", "A fault of ours.", [Error("error", "Server error.")]),
        503: Answer(
            "Unavailable",
            "`service_unavailable`: it cannot be done now, and nothing has happened. `outcome_unknown`: no answer came"
            " in time; a write may have been accepted, or may be yet. Repeat a POST with the same Idempotency-Key.",
            [*of(errors.ServiceUnavailable()), *of(errors.NoAnswer())],
            RETRY_AFTER,
        ),
    }
