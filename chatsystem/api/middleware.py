"""Middleware for every response: security policy and conditional requests. Documented in docs/api.md."""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus

from django.http import HttpRequest, HttpResponseBase
from django.middleware.http import ConditionalGetMiddleware

from chatsystem.api.errors import precondition_failed

#: For JSON. If a browser ever renders it as a page, that page may load and run nothing.
POLICY_OF_DATA = "default-src 'none'; frame-ancestors 'none'"
#: For pages: only our own files. The admin has no inline scripts or styles.
POLICY_OF_PAGES = (
    "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'"
)

#: The header of a list that says from where a stream continues it.
STREAM_POSITION = "Stream-Position"


def set_policy(response: HttpResponseBase) -> None:
    """Sets the Content-Security-Policy, unless the view has set one."""
    is_page = response.headers.get("Content-Type", "").startswith("text/html")
    response.headers.setdefault("Content-Security-Policy", POLICY_OF_PAGES if is_page else POLICY_OF_DATA)


def content_security_policy(
    get_response: Callable[[HttpRequest], HttpResponseBase],
) -> Callable[[HttpRequest], HttpResponseBase]:
    """Sets the Content-Security-Policy of every response, including those of other middleware."""

    def middleware(request: HttpRequest) -> HttpResponseBase:
        response = get_response(request)
        set_policy(response)
        return response

    return middleware


class ConditionalGet(ConditionalGetMiddleware):
    """Handles ETags, 304 and 412 as in RFC 9110, for GET and HEAD. A HEAD response still has its body to hash here."""

    def process_response(self, request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
        if request.method not in ("GET", "HEAD"):
            return response
        if "Last-Modified" not in response.headers:
            # RFC 9110, 13.1.4: ignored for a resource without a modification date. Django would return 412.
            request.META.pop("HTTP_IF_UNMODIFIED_SINCE", None)
        method, request.method = request.method, "GET"
        try:
            conditional = super().process_response(request, response)
        finally:
            request.method = method
        if conditional is not response:
            conditional = _in_place_of(response, conditional)
        if method == "HEAD" and not conditional.streaming:
            # Content-Length stays: it is that of a GET.
            conditional.content = b""  # type: ignore[attr-defined]
        return conditional


def _in_place_of(response: HttpResponseBase, conditional: HttpResponseBase) -> HttpResponseBase:
    """Returns the 304 or 412 to send: a 412 in the error shape, a 304 with the policy of the page it stands for.

    A browser replaces the headers of its cached page by those of the 304. With the policy for JSON the page would be
    blank from the second visit on.
    """
    if conditional.status_code == HTTPStatus.PRECONDITION_FAILED:
        conditional = precondition_failed()
    else:
        set_policy(response)
        conditional.headers["Content-Security-Policy"] = response.headers["Content-Security-Policy"]
        # The list is the same, and the position newer. Django keeps only the headers that it knows.
        if position := response.headers.get(STREAM_POSITION):
            conditional.headers[STREAM_POSITION] = position
    if response.streaming:
        # A streaming response holds an open file.
        response.close()
    return conditional
