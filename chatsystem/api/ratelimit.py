"""How many requests an application may make. Documented in docs/operations.md, "Rate limit".

Kept in the cache, whose loss loses nothing: every bucket is full again.
"""

from __future__ import annotations

import logging
import math
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.exceptions import MiddlewareNotUsed, SuspiciousOperation
from django.http import HttpRequest, HttpResponseBase
from django_redis import get_redis_connection

from chatsystem.api.errors import rate_limited
from chatsystem.api.routes import Token

logger = logging.getLogger(__name__)

LUA = Path(__file__).parent / "lua"

#: Seconds for which a cache that was away is not asked again. Each request would wait for it.
COOLDOWN = 5.0

#: An application's own routes, and the parameter by which a search is one of them.
PATH = re.compile(rf"/applications/({Token.regex})(?:/|$)")
SEARCH = "/search/"
TOKEN = re.compile(Token.regex)


@dataclass(frozen=True, slots=True)
class Bucket:
    """An application's requests: see take.lua."""

    passed: bool
    left: int
    #: Seconds.
    wait: float
    full_in: float


def take(token: str) -> Bucket:
    """Takes a request out of the application's bucket, or finds that it is empty."""
    return _ask(token, 1)


def look(token: str) -> Bucket:
    return _ask(token, 0)


def fill(token: str) -> None:
    """Lets the application begin anew."""
    get_redis_connection("default").delete(_key(token))


@cache
def _take() -> Any:
    return get_redis_connection("default").register_script((LUA / "take.lua").read_text())


def _ask(token: str, count: int) -> Bucket:
    interval = round(1e6 / settings.RATE_LIMIT)
    passed, left, wait, full_in = _take()(keys=[_key(token)], args=[interval, settings.RATE_LIMIT_BURST, count])
    return Bucket(bool(passed), left, wait / 1e6, full_in / 1e6)


def _key(token: str) -> str:
    return f"ratelimit:{token}"


def token_of(request: HttpRequest) -> str | None:
    """Whose a request is; None for one that crosses applications."""
    if match := PATH.match(request.path_info):
        return match[1]
    if not request.path_info.startswith(SEARCH):
        return None
    try:
        token = request.GET.get("application", "")
    except SuspiciousOperation:
        # A query that cannot be read: the route refuses it.
        return None
    return token if TOKEN.fullmatch(token) else None


class RateLimit:
    """Refuses what is too much before anything else is done about it. Without RATE_LIMIT it is no part of a request."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        if not settings.RATE_LIMIT:
            raise MiddlewareNotUsed
        self.get_response = get_response
        burst, rate = settings.RATE_LIMIT_BURST, settings.RATE_LIMIT
        self.policy = f'"application";q={burst};w={_whole(burst / rate)}'
        #: Of the monotonic clock: when the cache may be asked again.
        self.asks_at = 0.0

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        token = token_of(request)
        bucket = self._take(token) if token else None
        if bucket is None:
            return self.get_response(request)
        response = self.get_response(request) if bucket.passed else rate_limited(_whole(bucket.wait))
        response.headers["RateLimit-Policy"] = self.policy
        response.headers["RateLimit"] = f'"application";r={bucket.left};t={math.ceil(bucket.full_in)}'
        return response

    def _take(self, token: str) -> Bucket | None:
        """None while the cache is away: then all requests pass."""
        if time.monotonic() < self.asks_at:
            return None
        try:
            return take(token)
        except Exception as error:  # each cache's driver has classes of its own
            logger.warning("no rate limit for %.0f s, the cache is away: %s", COOLDOWN, type(error).__name__)
            self.asks_at = time.monotonic() + COOLDOWN
            return None


def _whole(seconds: float) -> int:
    return max(math.ceil(seconds), 1)
