"""Who may use the routes that cross applications. An application's token is the key to its own."""

from __future__ import annotations

from django.conf import settings
from django.utils.crypto import constant_time_compare
from rest_framework.request import Request

from chatsystem.api.errors import AdminKeyRequired


def require_admin_key(request: Request) -> None:
    """Raises 401 unless the request bears ADMIN_API_KEY; without one configured everybody may."""
    if not settings.ADMIN_API_KEY:
        return
    scheme, _, key = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer" and constant_time_compare(key, settings.ADMIN_API_KEY):
        return
    raise AdminKeyRequired
