"""Describes the parameters and response headers."""

from __future__ import annotations

from functools import partial
from typing import Any

from drf_spectacular.utils import OpenApiParameter

from chatsystem.api.errors import AdminKeyRequired
from chatsystem.api.idempotency import MAX_KEY
from chatsystem.api.middleware import STREAM_POSITION
from chatsystem.api.pagination import DEFAULT_LIMIT, MAX_LIMIT
from chatsystem.api.routing import Token
from chatsystem.writelog.reads import MAX_NUMBER

TOKEN = {"pattern": f"^{Token.regex}$"}
NUMBER = {"type": "integer", "format": "int64", "minimum": 1, "maximum": MAX_NUMBER}

#: An example.
POSITION = "7-1795449565599123"


def _parameter(location: Any, name: str, description: str, **schema: Any) -> OpenApiParameter:
    """Describes a parameter. It is a string unless its schema says otherwise."""
    typed = {"type": "string", **schema}
    return OpenApiParameter(name, typed, location, required=location == OpenApiParameter.PATH, description=description)


in_path = partial(_parameter, OpenApiParameter.PATH)
in_query = partial(_parameter, OpenApiParameter.QUERY)
in_header = partial(_parameter, OpenApiParameter.HEADER)

PATH = [
    in_path("token", "The application's token. It grants access to everything in the application.", **TOKEN),
    in_path("chat_number", "The chat's number in its application.", **NUMBER),
    in_path("number", "The number of the chat in its application, or of the message in its chat.", **NUMBER),
]
LIMIT = in_query("limit", "The page size.", type="integer", minimum=1, maximum=MAX_LIMIT, default=DEFAULT_LIMIT)
BY_CURSOR = [LIMIT, in_query("cursor", "An opaque position. Take it from a link.")]
BEFORE = "Returns the page nearest below this number. `after` and `before` together bound a range that excludes both."
BY_NUMBER = [
    LIMIT,
    in_query("order", "The order by number.", enum=["asc", "desc"], default="asc"),
    in_query("after", "Returns the page nearest above this number.", **NUMBER | {"minimum": 0}),
    in_query("before", BEFORE, **NUMBER),
    in_query("cursor", "An opaque position in a range. Take it from a link, with its `after` and `before`."),
]
IF_NONE_MATCH = in_header(
    "If-None-Match", "An earlier response's `ETag`. The response is 304 if nothing has changed since."
)
IDEMPOTENCY_KEY = in_header(
    "Idempotency-Key",
    "Printable ASCII. The same key with the same body returns the first response again, for 24 hours.",
    minLength=1,
    maxLength=MAX_KEY,
    pattern="^[!-~]([ -~]*[!-~])?$",  # HTTP strips spaces around a header's value.
)
REQUEST_ID = in_header(
    "X-Request-ID",
    "The name of this request in the logs: an HTTP token of 1 to 128 characters. Any other value is replaced.",
)
BY_METHOD = {"GET": [IF_NONE_MATCH, REQUEST_ID], "POST": [IDEMPOTENCY_KEY, REQUEST_ID], "PATCH": [REQUEST_ID]}


def parameters(path: str, method: str, is_list: bool) -> list[OpenApiParameter]:
    """Returns the parameters of an operation. Lists in an application are by number, all others by cursor."""
    of_list = (BY_NUMBER if "{token}" in path else BY_CURSOR) if is_list else []
    return [*(each for each in PATH if f"{{{each.name}}}" in path), *of_list, *BY_METHOD[method]]


#: The server answers these before it has read the request, so without an X-Request-ID.
OF_SERVER = frozenset({400, 408, 413, 414, 417, 431, 503})


def headers(
    status: int, is_get: bool = False, is_entity: bool = False, is_limited: bool = True, is_streamed: bool = False
) -> dict[str, Any]:
    """Returns the headers of a response with this status."""
    found: dict[str, Any] = {}

    def add(name: str, description: str, example: Any = None, required: bool = True, **schema: Any) -> None:
        found[name] = {"description": description, "required": required, "schema": {"type": "string", **schema}}
        if example is not None:
            found[name]["example"] = example

    text = "The name of this request in the logs: the client's, or a generated one."
    add("X-Request-ID", text, "0f8fad5bd9cb469fa16570867728950e", status not in OF_SERVER)
    if is_entity:
        add("Cache-Control", "Caches must revalidate the response by its ETag.", const="no-cache")
    if is_limited and status != 304:  # draft-ietf-httpapi-ratelimit-headers-10
        policy = "Present if requests are limited per application. `q` requests can be sent at once. An empty bucket is"
        add("RateLimit-Policy", f"{policy} full again after `w` seconds.", '"application";q=100;w=2', status == 429)
        left = "`r` requests are left. The bucket is full again in `t` seconds."
        add("RateLimit", left, '"application";r=97;t=1', status == 429)
    if is_get and status < 400:
        etag = '"0123456789abcdef0123456789abcdef"'
        add("ETag", "Changes with every change. Send it as If-None-Match.", etag)
    if is_streamed and status < 400:
        text = "From where live events show every later change. When paging, use that of the first page."
        add(STREAM_POSITION, text, POSITION)
    if status == 201:
        add("Location", "The URL of the new entity. Absent for a batch.", required=False, format="uri")
        again = "Present if this repeats the response to an earlier request with the same Idempotency-Key."
        add("Idempotent-Replayed", again, required=False, const="true")
    if status == 401:
        add("WWW-Authenticate", "The scheme of the key.", AdminKeyRequired.auth_header)
    if status == 405:
        add("Allow", "The methods of this path.", "GET, POST, HEAD, OPTIONS")
    if status in (429, 503):
        add("Retry-After", "Seconds to wait before repeating the request.", 1, type="integer", minimum=1)
    return found
