"""What holds for each answer, whichever room gives it. Documented in docs/api.md."""

from __future__ import annotations

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
