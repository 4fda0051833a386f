"""Parameters and headers that several routes have."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import OpenApiParameter

from chatsystem.api.idempotency import MAX_KEY
from chatsystem.api.pagination import DEFAULT_LIMIT, MAX_LIMIT
from chatsystem.api.routes import Token
from chatsystem.writelog.reads import MAX_NUMBER

TOKEN_SCHEMA = {"type": "string", "pattern": f"^{Token.regex}$"}


def whole_number(low: int, **more: Any) -> dict[str, Any]:
    return {"type": "integer", "format": "int64", "minimum": low, "maximum": MAX_NUMBER, **more}


def in_path(name: str, schema: dict[str, Any], description: str) -> OpenApiParameter:
    return OpenApiParameter(name, schema, OpenApiParameter.PATH, required=True, description=description)


def in_query(name: str, schema: dict[str, Any], description: str) -> OpenApiParameter:
    return OpenApiParameter(name, schema, OpenApiParameter.QUERY, description=description)


TOKEN = in_path("token", TOKEN_SCHEMA, "The application's token: the key to all that it owns.")

LIMIT = in_query(
    "limit",
    {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": DEFAULT_LIMIT},
    f"Entries of a page, 1 to {MAX_LIMIT}.",
)
CURSOR = in_query("cursor", {"type": "string"}, "Opaque, from a link only.")
BY_NUMBER = [
    LIMIT,
    in_query("order", {"type": "string", "enum": ["asc", "desc"], "default": "asc"}, "By number."),
    in_query("after", whole_number(0), "The page nearest above this number."),
    in_query(
        "before",
        whole_number(1),
        "The page nearest below this number. Together with `after` it bounds a range, both ends excluded.",
    ),
    in_query("cursor", {"type": "string"}, "Opaque, from a link only; it belongs to a range of `after` and `before`."),
]

IF_NONE_MATCH = OpenApiParameter(
    "If-None-Match",
    {"type": "string"},
    OpenApiParameter.HEADER,
    description="The `ETag` of an earlier answer: 304 when nothing has changed since.",
)
REQUEST_ID = OpenApiParameter(
    "X-Request-ID",
    {"type": "string"},
    OpenApiParameter.HEADER,
    description="What the logs shall call this request: 1 to 128 characters of an HTTP token. Any other is replaced.",
)
IDEMPOTENCY_KEY = OpenApiParameter(
    "Idempotency-Key",
    # HTTP takes the spaces around a header's value away.
    {"type": "string", "minLength": 1, "maxLength": MAX_KEY, "pattern": "^[!-~]([ -~]*[!-~])?$"},
    OpenApiParameter.HEADER,
    description="Printable ASCII. The same key with the same body gets the first answer again, for 24 hours.",
)

# Headers of answers, as the description spells them.

CACHE_CONTROL: dict[str, Any] = {
    "Cache-Control": {
        "description": "What is kept has to be asked about again, by its ETag.",
        "required": True,
        "schema": {"type": "string", "const": "no-cache"},
    }
}
ETAG: dict[str, Any] = {
    "ETag": {
        "description": "Changes with every change; for If-None-Match.",
        "required": True,
        "schema": {"type": "string"},
        "example": '"0123456789abcdef0123456789abcdef"',
    }
}


def request_id(required: bool) -> dict[str, Any]:
    return {
        "X-Request-ID": {
            "description": "What the logs call this request: the client's name of it, or one of ours.",
            "required": required,
            "schema": {"type": "string"},
            "example": "0f8fad5bd9cb469fa16570867728950e",
        }
    }


def rate_limit(required: bool) -> dict[str, Any]:
    """As of draft-ietf-httpapi-ratelimit-headers-10."""
    return {
        "RateLimit-Policy": {
            "description": "Where an application's requests are limited: `q` at once; an empty bucket is full again"
            " after `w` seconds.",
            "required": required,
            "schema": {"type": "string"},
            "example": '"application";q=100;w=2',
        },
        "RateLimit": {
            "description": "`r` requests are left; all of them again in `t` seconds.",
            "required": required,
            "schema": {"type": "string"},
            "example": '"application";r=97;t=1',
        },
    }


CREATED: dict[str, Any] = {
    "Location": {
        "description": "Where the new one is. A batch has none.",
        "schema": {"type": "string", "format": "uri"},
    },
    "Idempotent-Replayed": {
        "description": "There when this is the answer to an earlier request with the same Idempotency-Key.",
        "schema": {"type": "string", "const": "true"},
    },
}
