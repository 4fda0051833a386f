"""Who may use the routes that cross applications. An application's token is the key to its own."""

from __future__ import annotations

from django.conf import settings
from django.utils.crypto import constant_time_compare
from rest_framework.request import Request

from chatsystem.api.errors import AdminKeyRequired


def admin_keys() -> list[str]:
    """Those of ADMIN_API_KEY, which holds two while one takes the other's place. An empty one is no key."""
    return [key for key in map(str.strip, settings.ADMIN_API_KEY.split(",")) if key]


def require_admin_key(request: Request) -> None:
    """Raises 401 unless the request bears a key of ADMIN_API_KEY; without one configured everybody may."""
    if not settings.ADMIN_API_KEY:
        return
    scheme, _, given = request.headers.get("Authorization", "").partition(" ")
    # Each is compared, so that the time does not tell which one came near.
    matches = [constant_time_compare(given, key) for key in admin_keys()]
    if scheme.lower() == "bearer" and any(matches):
        return
    raise AdminKeyRequired
