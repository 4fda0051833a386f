"""Gives each request an id, and logs slow requests. Documented in docs/logs.md."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from django.conf import settings
from django.http import HttpRequest, HttpResponse

from chatsystem.logs.request_id import given_or_new, request_id

logger = logging.getLogger(__name__)


class RequestLog:
    """Comes first in MIDDLEWARE, so that the lines of the other middleware get the request's id too."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        name = given_or_new(request.META.get("HTTP_X_REQUEST_ID"))
        # Reset below: the thread's next request would otherwise log this id.
        token = request_id.set(name)
        began = time.perf_counter()
        try:
            response = self.get_response(request)
            seconds = time.perf_counter() - began
            if seconds > settings.SLOW_REQUEST_SECONDS:
                log_slow(request, response.status_code, seconds)
        finally:
            request_id.reset(token)
        response.headers["X-Request-ID"] = name
        return response


def log_slow(request: HttpRequest, status: int, seconds: float) -> None:
    # The route's pattern, since the path holds a token.
    route = request.resolver_match.route if request.resolver_match else "none"
    logger.warning(
        "slow request: %s %s answered %d in %.3f s",
        request.method,
        route,
        status,
        seconds,
        extra={"method": request.method, "route": route, "status": status, "seconds": round(seconds, 6)},
    )
