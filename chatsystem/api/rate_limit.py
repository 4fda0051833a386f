"""Limits the rate of requests per application (throttling). Documented in docs/settings.md, "Rate limit".

The token buckets are in the cache. If the cache is lost, every bucket is full again.
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
from chatsystem.api.routing import Token
from chatsystem.server.handover import EVENTS_PATH

logger = logging.getLogger(__name__)

LUA = Path(__file__).parent / "lua"

#: Seconds for which a cache that failed is not tried again (circuit breaker). Otherwise each request would wait.
COOLDOWN = 5.0

#: The routes of an application. A search belongs to an application if it has `application`.
PATH = re.compile(rf"/applications/({Token.regex})(?:/|$)")
SEARCH = "/search/"
TOKEN = re.compile(Token.regex)


@dataclass(frozen=True, slots=True)
class Bucket:
    """The state of an application's token bucket. See token_bucket.lua."""

    passed: bool
    left: int
    #: Seconds until a request would pass, and until the bucket is full.
    wait: float
    full_in: float


def take(token: str) -> Bucket:
    """Takes a request from the application's bucket, unless it is empty."""
    return _run(token, 1)


def look(token: str) -> Bucket:
    """Returns the bucket without taking from it."""
    return _run(token, 0)


def fill(token: str) -> None:
    """Fills the application's bucket."""
    get_redis_connection("default").delete(_key(token))


@cache
def _script() -> Any:
    return get_redis_connection("default").register_script((LUA / "token_bucket.lua").read_text())


def _run(token: str, count: int) -> Bucket:
    interval = round(1e6 / settings.RATE_LIMIT)
    passed, left, wait, full_in = _script()(keys=[_key(token)], args=[interval, settings.RATE_LIMIT_BURST, count])
    return Bucket(bool(passed), left, wait / 1e6, full_in / 1e6)


def _key(token: str) -> str:
    return f"ratelimit:{token}"


def token_of(request: HttpRequest) -> str | None:
    """Returns the token of the application that the request belongs to, or None for one that is not limited.

    Those span applications, or ask for events: streams and polls are limited in number.
    """
    if EVENTS_PATH.fullmatch(request.path_info):
        return None
    if match := PATH.match(request.path_info):
        return match[1]
    if not request.path_info.startswith(SEARCH):
        return None
    try:
        token = request.GET.get("application", "")
    except SuspiciousOperation:
        # The query cannot be parsed. The view will return 400.
        return None
    return token if TOKEN.fullmatch(token) else None


class RateLimit:
    """Rejects requests over the limit before they cost anything else. Not installed unless RATE_LIMIT is set."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        if not settings.RATE_LIMIT:
            raise MiddlewareNotUsed
        self.get_response = get_response
        burst, rate = settings.RATE_LIMIT_BURST, settings.RATE_LIMIT
        self.policy = f'"application";q={burst};w={_whole(burst / rate)}'
        #: Monotonic time from which the cache may be tried again.
        self.retry_at = 0.0

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
        """Returns the bucket, or None while the cache is down. Then all requests pass."""
        if time.monotonic() < self.retry_at:
            return None
        try:
            return take(token)
        except Exception as error:  # Each cache driver has its own exception classes.
            logger.warning("no rate limit for %.0f s, because the cache is down: %s", COOLDOWN, type(error).__name__)
            self.retry_at = time.monotonic() + COOLDOWN
            return None


def _whole(seconds: float) -> int:
    """Returns the seconds rounded up, at least 1."""
    return max(math.ceil(seconds), 1)
