"""Authenticates requests that span applications. An application's token grants access to its own routes."""

from __future__ import annotations

from django.conf import settings
from django.utils.crypto import constant_time_compare
from rest_framework.request import Request

from chatsystem.api.errors import AdminKeyRequired


def admin_keys() -> list[str]:
    """Returns the keys in ADMIN_API_KEY, without empty ones. There are two while a key is being replaced."""
    return [key for key in map(str.strip, settings.ADMIN_API_KEY.split(",")) if key]


def require_admin_key(request: Request) -> None:
    """Raises 401 unless the request carries a key of ADMIN_API_KEY, or none is configured."""
    if not settings.ADMIN_API_KEY:
        return
    scheme, _, given = request.headers.get("Authorization", "").partition(" ")
    # All keys are compared, so that the response time does not tell which one matched.
    matches = [constant_time_compare(given, key) for key in admin_keys()]
    if scheme.lower() == "bearer" and any(matches):
        return
    raise AdminKeyRequired
