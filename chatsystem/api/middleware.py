"""What holds for each answer, whichever room gives it. Documented in docs/api.md."""

from __future__ import annotations

from collections.abc import Callable

from django.http import HttpRequest, HttpResponseBase
from django.middleware.http import ConditionalGetMiddleware


class ConditionalGet(ConditionalGetMiddleware):
    """ETags and 304 for HEAD as for GET: views answer both alike, and here the body is still there to be hashed."""

    def process_response(self, request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
        if request.method != "HEAD":
            return super().process_response(request, response)
        request.method = "GET"
        try:
            response = super().process_response(request, response)
        finally:
            request.method = "HEAD"
        if not response.streaming:
            # Content-Length stays: it tells what a GET would bring.
            response.content = b""  # type: ignore[attr-defined]
        return response


#: Of JSON: should a browser ever take it for a page, then for one that may do and load nothing.
POLICY_OF_DATA = "default-src 'none'; frame-ancestors 'none'"
#: Of pages: what is ours and in files. The admin has neither scripts nor styles within its pages.
POLICY_OF_PAGES = (
    "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'"
)


def content_security_policy(
    get_response: Callable[[HttpRequest], HttpResponseBase],
) -> Callable[[HttpRequest], HttpResponseBase]:
    """Content-Security-Policy. A view that needs another one sets it."""

    def middleware(request: HttpRequest) -> HttpResponseBase:
        response = get_response(request)
        is_page = response.headers.get("Content-Type", "").startswith("text/html")
        response.headers.setdefault("Content-Security-Policy", POLICY_OF_PAGES if is_page else POLICY_OF_DATA)
        return response

    return middleware
