"""Describes the parameters and headers that several routes share."""

from __future__ import annotations

from functools import partial
from typing import Any

from drf_spectacular.utils import OpenApiParameter

from chatsystem.api.idempotency import MAX_KEY
from chatsystem.api.pagination import DEFAULT_LIMIT, MAX_LIMIT
from chatsystem.api.routing import Token
from chatsystem.writelog.reads import MAX_NUMBER

STRING = {"type": "string"}
TOKEN_SCHEMA = {"type": "string", "pattern": f"^{Token.regex}$"}


def whole_number(low: int) -> dict[str, Any]:
    return {"type": "integer", "format": "int64", "minimum": low, "maximum": MAX_NUMBER}


def _parameter(location: Any, name: str, schema: dict[str, Any], description: str) -> OpenApiParameter:
    return OpenApiParameter(name, schema, location, required=location == OpenApiParameter.PATH, description=description)


in_path = partial(_parameter, OpenApiParameter.PATH)
in_query = partial(_parameter, OpenApiParameter.QUERY)
in_header = partial(_parameter, OpenApiParameter.HEADER)

TOKEN = in_path("token", TOKEN_SCHEMA, "The application's token. It grants access to everything in the application.")
LIMIT = in_query(
    "limit",
    {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": DEFAULT_LIMIT},
    f"The page size, from 1 to {MAX_LIMIT}.",
)
CURSOR = in_query("cursor", STRING, "An opaque position. Take it from a link.")
BY_NUMBER = [
    LIMIT,
    in_query("order", {"type": "string", "enum": ["asc", "desc"], "default": "asc"}, "The order by number."),
    in_query("after", whole_number(0), "Returns the page nearest above this number."),
    in_query(
        "before",
        whole_number(1),
        "Returns the page nearest below this number. `after` and `before` together bound a range that excludes both.",
    ),
    in_query("cursor", STRING, "An opaque position in a range. Take it from a link, with its `after` and `before`."),
]
IF_NONE_MATCH = in_header(
    "If-None-Match", STRING, "The `ETag` of an earlier response. The response is 304 if nothing has changed since."
)
REQUEST_ID = in_header(
    "X-Request-ID",
    STRING,
    "The name of this request in the logs: an HTTP token of 1 to 128 characters. Any other value is replaced.",
)
IDEMPOTENCY_KEY = in_header(
    "Idempotency-Key",
    # HTTP strips spaces around a header's value.
    {"type": "string", "minLength": 1, "maxLength": MAX_KEY, "pattern": "^[!-~]([ -~]*[!-~])?$"},
    "Printable ASCII. The same key with the same body returns the first response again, for 24 hours.",
)


def header(
    name: str, description: str, example: Any = None, required: bool = True, schema: dict[str, Any] = STRING
) -> dict[str, Any]:
    """Returns a response header, as an entry of a `headers` object."""
    described = {"description": description, "required": required, "schema": schema}
    return {name: described if example is None else {**described, "example": example}}


CACHE_CONTROL = header(
    "Cache-Control", "Caches must revalidate the response by its ETag.", schema={"type": "string", "const": "no-cache"}
)
ETAG = header("ETag", "Changes with every change. Send it as If-None-Match.", '"0123456789abcdef0123456789abcdef"')
CREATED = header(
    "Location",
    "The URL of the new entity. Absent for a batch.",
    required=False,
    schema={"type": "string", "format": "uri"},
) | header(
    "Idempotent-Replayed",
    "Present if this repeats the response to an earlier request with the same Idempotency-Key.",
    required=False,
    schema={"type": "string", "const": "true"},
)


def request_id(required: bool) -> dict[str, Any]:
    text = "The name of this request in the logs: the client's, or a generated one."
    return header("X-Request-ID", text, "0f8fad5bd9cb469fa16570867728950e", required)


def rate_limit(required: bool) -> dict[str, Any]:
    """Returns the headers of draft-ietf-httpapi-ratelimit-headers-10."""
    policy = (
        "Present if requests are limited per application. `q` requests can be sent at once. An empty bucket is full"
        " again after `w` seconds."
    )
    left = "`r` requests are left. The bucket is full again in `t` seconds."
    return header("RateLimit-Policy", policy, '"application";q=100;w=2', required) | header(
        "RateLimit", left, '"application";r=97;t=1', required
    )
