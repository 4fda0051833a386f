"""The same request twice is one write with one answer: a client's key, or a proxy's. Documented in docs/api.md."""

from __future__ import annotations

from rest_framework.exceptions import ValidationError
from rest_framework.request import Request

from chatsystem.writelog.intake import RequestKey

MAX_KEY = 255

# As WSGI spells them: a request's `headers` are a mapping that is made of all of them, at a twentieth of a POST.
KEY_HEADER = "HTTP_IDEMPOTENCY_KEY"
#: In Proxy-Request-Id a proxy names each request, so that it may send one again whose answer it did not get
#: (deploy/nginx/nginx.conf). Not X-Request-ID: many requests of one trace bear the same.
PROXY_HEADER = "HTTP_PROXY_REQUEST_ID"


def request_key(request: Request) -> RequestKey | None:
    """The client's Idempotency-Key, else the proxy's name for the request, else None.

    Raises a 400 that names the header when the client's is no key.
    """
    key = request.META.get(KEY_HEADER)
    if key is None:
        return proxy_key(request)
    if not _is_key(key):
        raise ValidationError({"Idempotency-Key": [f"Give 1 to {MAX_KEY} printable ASCII characters."]})
    return RequestKey.of_client(key)


def proxy_key(request: Request) -> RequestKey | None:
    """The proxy's name for the request; None without one."""
    key = request.META.get(PROXY_HEADER, "")
    return RequestKey.of_proxy(key) if _is_key(key) else None


def _is_key(key: str) -> bool:
    return 1 <= len(key) <= MAX_KEY and all(" " <= character <= "~" for character in key)
