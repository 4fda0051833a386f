"""Names each request, and tells of those that took long. Documented in docs/operations.md."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from django.conf import settings
from django.http import HttpRequest, HttpResponse

from chatsystem.logs.request_id import given_or_new, request_id

logger = logging.getLogger(__name__)


class RequestLog:
    """The outermost of MIDDLEWARE: what the others log belongs to the request, too."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        name = given_or_new(request.META.get("HTTP_X_REQUEST_ID"))
        # Threads answer one request after the other: an id that stayed would be in lines of the next one.
        token = request_id.set(name)
        began = time.perf_counter()
        try:
            response = self.get_response(request)
            seconds = time.perf_counter() - began
            if seconds > settings.SLOW_REQUEST_SECONDS:
                tell(request, response.status_code, seconds)
        finally:
            request_id.reset(token)
        response.headers["X-Request-ID"] = name
        return response


def tell(request: HttpRequest, status: int, seconds: float) -> None:
    # The route's pattern and never the path, which holds a token.
    route = request.resolver_match.route if request.resolver_match else "none"
    logger.warning(
        "slow request: %s %s answered %d in %.3f s",
        request.method,
        route,
        status,
        seconds,
        extra={"method": request.method, "route": route, "status": status, "seconds": round(seconds, 6)},
    )
