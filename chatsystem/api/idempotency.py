"""The Idempotency-Key header: the same request twice is one write with one answer. Documented in docs/api.md."""

from __future__ import annotations

from rest_framework.exceptions import ValidationError
from rest_framework.request import Request

MAX_KEY = 255


def idempotency_key(request: Request) -> str | None:
    """The client's key, None without one. Raises a 400 that names the header when it is no key."""
    key = request.headers.get("Idempotency-Key")
    if key is None:
        return None
    if not 1 <= len(key) <= MAX_KEY or not all(" " <= character <= "~" for character in key):
        raise ValidationError({"Idempotency-Key": [f"Give 1 to {MAX_KEY} printable ASCII characters."]})
    return key
