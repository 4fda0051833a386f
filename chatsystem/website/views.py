"""The pages for people: the landing page and the demo. Documented in docs/operations.md."""

from __future__ import annotations

from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils.cache import patch_vary_headers
from rest_framework.decorators import api_view, content_negotiation_class
from rest_framework.request import Request

from chatsystem.api.negotiation import AnyAccept
from chatsystem.monitoring import health

#: The pages load only our own files, and the demo calls only this server.
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

#: What the landing page links to, and the name of each in JSON.
LINKS = {"health": "ready", "docs": "docs", "openapi": "openapi", "admin": "admin:index"}


@api_view(["GET", "HEAD"])
@content_negotiation_class(AnyAccept)
def landing(request: Request) -> HttpResponse:
    """Says what runs here, and where to go next.

    A page if `Accept` prefers `text/html`, as a browser's does. Otherwise the links, in JSON.
    """
    if _prefers_html(request._request):
        status, dependencies = health.readiness()
        context = {"status": status, "dependencies": dependencies, "demo": settings.DEMO}
        response = _page(request, "website/landing.html", context)
    else:
        names = {**LINKS, "demo": "demo"} if settings.DEMO else LINKS
        response = JsonResponse({key: request.build_absolute_uri(reverse(name)) for key, name in names.items()})
        response.headers["Cache-Control"] = "no-cache"
    patch_vary_headers(response, ["Accept"])
    return response


@api_view(["GET", "HEAD"])
@content_negotiation_class(AnyAccept)
def demo(request: Request) -> HttpResponse:
    """Returns the demo, a page on which people chat. 404 unless DEMO is set.

    It has no rights of its own: it calls the API as any client does.
    """
    if not settings.DEMO:
        raise Http404
    return _page(request, "website/demo.html", {"needs_admin_key": bool(settings.ADMIN_API_KEY)})


def _page(request: Request, template: str, context: dict[str, object]) -> HttpResponse:
    response = render(request._request, template, context)
    response.headers["Cache-Control"] = "no-cache"
    response.headers["Content-Security-Policy"] = CONTENT_SECURITY_POLICY
    return response


def _prefers_html(request: HttpRequest) -> bool:
    try:
        return request.get_preferred_type(["application/json", "text/html"]) == "text/html"
    except ValueError:
        # Django raises it for a parameter in an unknown charset.
        return False
