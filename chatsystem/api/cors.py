"""Cross-origin requests (CORS): which pages of other sites may use the API. Documented in docs/api.md.

No cookie and no other credential of the browser is ever allowed, so a page can do only what its token or ticket allows.
"""

from __future__ import annotations

from collections.abc import Callable

from django.conf import settings
from django.core.exceptions import MiddlewareNotUsed
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.utils.cache import patch_vary_headers

#: The beginnings of the paths that pages of other origins may use. Never those of operators: /admin, /metrics.
PATHS = ("/applications", "/search/", "/events", "/health/", "/openapi.json")
METHODS = "GET, HEAD, POST, PATCH"
#: The request headers of the API that a browser does not send without asking.
REQUEST_HEADERS = "Authorization, Content-Type, Idempotency-Key, If-Match, If-None-Match, Last-Event-ID, X-Request-ID"
#: The response headers of the API that a browser would hide from the page.
EXPOSED = (
    "Allow, ETag, Idempotent-Replayed, Location, RateLimit, RateLimit-Policy, Retry-After, Stream-Position, "
    "WWW-Authenticate, X-Request-ID"
)
#: Seconds for which a browser remembers a preflight. Chromium remembers none for longer.
MAX_AGE = "7200"


def cors_headers(origin: str | None) -> dict[str, str]:
    """Returns the headers of every response to a request with this `Origin`, or without one.

    A page may read the response only if its origin is one of CORS_ORIGINS. Empty where CORS_ORIGINS is.
    """
    if not settings.CORS_ORIGINS:
        return {}
    if origin not in settings.CORS_ORIGINS:
        return {"Vary": "Origin"}
    return {"Vary": "Origin", "Access-Control-Allow-Origin": origin, "Access-Control-Expose-Headers": EXPOSED}


def preflight_headers(origin: str | None) -> dict[str, str] | None:
    """Returns the headers of the 204 that answers a preflight, or None if the origin is none of CORS_ORIGINS.

    A preflight is an OPTIONS request with `Access-Control-Request-Method`. It answers for every method and header of
    the API, whatever the page asks for.
    """
    if origin is None or origin not in settings.CORS_ORIGINS:
        return None
    return {
        "Vary": "Origin",
        "Access-Control-Allow-Origin": origin,
        "Access-Control-Allow-Methods": METHODS,
        "Access-Control-Allow-Headers": REQUEST_HEADERS,
        "Access-Control-Max-Age": MAX_AGE,
    }


class Cors:
    """Answers preflights, and lets the pages of CORS_ORIGINS read responses, errors and 304s included.

    Not installed unless CORS_ORIGINS is set.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        if not settings.CORS_ORIGINS:
            raise MiddlewareNotUsed
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        if not request.path_info.startswith(PATHS):
            return self.get_response(request)
        origin = request.META.get("HTTP_ORIGIN")
        if request.method == "OPTIONS" and "HTTP_ACCESS_CONTROL_REQUEST_METHOD" in request.META:
            # Answered here: it takes no token of the rate limit.
            allowed = preflight_headers(origin)
            if allowed is not None:
                return HttpResponse(status=204, headers=allowed)
        response = self.get_response(request)
        for name, value in cors_headers(origin).items():
            if name == "Vary":
                patch_vary_headers(response, [value])
            else:
                response.headers[name] = value
        return response
