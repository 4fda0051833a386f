"""Idempotency keys: a repeated request is one write with one response. Documented in docs/api.md."""

from __future__ import annotations

from rest_framework.exceptions import ValidationError
from rest_framework.request import Request

from chatsystem.writelog.append import RequestKey

MAX_KEY = 255

KEY_HEADER = "HTTP_IDEMPOTENCY_KEY"
#: A proxy gives each request an id, so that it can repeat one to which it got no response (deploy/nginx/nginx.conf).
#: X-Request-ID would not do: all requests of a trace may share one.
PROXY_HEADER = "HTTP_PROXY_REQUEST_ID"


def request_key(request: Request) -> RequestKey | None:
    """Returns the client's Idempotency-Key, else the proxy's id of the request, else None.

    Raises a 400 that names the header if the client's key is invalid.
    """
    key = request.META.get(KEY_HEADER)
    if key is None:
        return proxy_key(request)
    if not _is_key(key):
        raise ValidationError({"Idempotency-Key": [f"Give 1 to {MAX_KEY} printable ASCII characters."]})
    return RequestKey.of_client(key)


def proxy_key(request: Request) -> RequestKey | None:
    """Returns the proxy's id of the request, or None without one."""
    key = request.META.get(PROXY_HEADER, "")
    return RequestKey.of_proxy(key) if _is_key(key) else None


def _is_key(key: str) -> bool:
    return 1 <= len(key) <= MAX_KEY and all(" " <= character <= "~" for character in key)
