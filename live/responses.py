"""The responses of the live process besides streams. The errors have the API's shape. Documented in docs/api.md."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple

from rest_framework.exceptions import APIException, MethodNotAllowed, ValidationError

#: What an ASGI server gives to an application for a response's messages.
Send = Callable[[dict[str, Any]], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

JSON = "application/json"


class Response(NamedTuple):
    status: int
    body: bytes = b""
    content_type: str = JSON
    headers: Mapping[str, str] = {}


def as_bytes(headers: Mapping[str, str]) -> Headers:
    return [(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()]


def json_response(content: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    # Byte for byte like DRF's renderer, so that a 404 does not reveal who answered it.
    body = json.dumps(content, separators=(",", ":"), ensure_ascii=False).encode()
    return Response(status, body, JSON, headers or {})


def error_response(error: APIException) -> Response:
    """Returns the response to one of the API's exceptions."""
    attr: str | None = None
    detail: Any = error.detail
    if isinstance(error, ValidationError) and isinstance(detail, dict):
        attr, [detail] = next(iter(detail.items()))
    kind = "validation_error" if attr else "server_error" if error.status_code >= 500 else "client_error"
    shown = {"code": getattr(detail, "code", error.default_code), "detail": str(detail), "attr": attr}
    headers = {}
    if wait := getattr(error, "wait", None):
        headers["Retry-After"] = str(wait)
    if isinstance(error, MethodNotAllowed):
        headers["Allow"] = "GET"
    if authentication := getattr(error, "auth_header", None):
        headers["WWW-Authenticate"] = authentication
    return json_response({"type": kind, "errors": [shown]}, error.status_code, headers)


async def send_response(send: Send, response: Response, headers: Headers) -> None:
    length = [(b"content-length", str(len(response.body)).encode())] if response.status != 204 else []
    kind = [(b"content-type", response.content_type.encode())] if response.body else []
    await send(
        {
            "type": "http.response.start",
            "status": response.status,
            "headers": [*kind, *length, *as_bytes(response.headers), *headers],
        }
    )
    await send({"type": "http.response.body", "body": response.body})
