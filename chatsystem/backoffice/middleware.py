"""Limits sessions, users and messages to the admin. The API does not use them, and they would add 17 % to a POST's CPU.

These are subclasses because the admin's system checks look for their base classes in MIDDLEWARE.
"""

from __future__ import annotations

from typing import Any

from django.contrib.auth.middleware import AuthenticationMiddleware
from django.contrib.messages.middleware import MessageMiddleware
from django.contrib.sessions.middleware import SessionMiddleware
from django.http import HttpRequest
from django.utils.deprecation import MiddlewareMixin

ADMIN = "/admin/"


class _OfTheAdmin(MiddlewareMixin):
    def __call__(self, request: HttpRequest) -> Any:
        if request.path_info.startswith(ADMIN):
            return super().__call__(request)
        return self.get_response(request)


class Sessions(_OfTheAdmin, SessionMiddleware):
    pass


class Authentication(_OfTheAdmin, AuthenticationMiddleware):
    pass


class Messages(_OfTheAdmin, MessageMiddleware):
    pass
