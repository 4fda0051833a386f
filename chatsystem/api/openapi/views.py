"""Serves the OpenAPI description, and the /docs page that shows it. Documented in docs/api.md."""

from __future__ import annotations

from functools import cache

from django.http import HttpResponse
from django.shortcuts import render
from rest_framework.decorators import api_view, content_negotiation_class
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request

from chatsystem.api.negotiation import AnyAccept
from chatsystem.api.openapi.generator import Generator

#: The page loads only our own files. Swagger UI has its icons in data URLs.
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


@cache
def as_json() -> bytes:
    """Returns the description. It is cached: it never changes, and generating it takes a tenth of a second."""
    content: bytes = JSONRenderer().render(Generator().get_schema(public=True))
    return content


@api_view(["GET", "HEAD"])
@content_negotiation_class(AnyAccept)
def openapi(request: Request) -> HttpResponse:
    """Returns this description in OpenAPI 3.1, as JSON whatever `Accept` says."""
    return HttpResponse(as_json(), content_type="application/json", headers={"Cache-Control": "no-cache"})


@api_view(["GET", "HEAD"])
@content_negotiation_class(AnyAccept)
def docs(request: Request) -> HttpResponse:
    """Returns this description as a page, in HTML whatever `Accept` says.

    The page loads nothing from other hosts.
    """
    response = render(request._request, "openapi/docs.html")
    response.headers["Cache-Control"] = "no-cache"
    response.headers["Content-Security-Policy"] = CONTENT_SECURITY_POLICY
    return response
