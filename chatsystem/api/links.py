"""URLs in answers: of the request's own, on the host that the client used. Documented in docs/api.md."""

from __future__ import annotations

from django.utils.encoding import escape_uri_path
from rest_framework.request import Request


def link(request: Request, **params: object) -> str:
    """This request's URL with these parameters replaced; None takes one out."""
    query = request.query_params.copy()
    for name, value in params.items():
        query.pop(name, None)
        if value is not None:
            query[name] = str(value)
    url = _without_query(request)
    return f"{url}?{query.urlencode()}" if query else url


def child(request: Request, name: object) -> str:
    """The URL of what a POST to a collection created in it."""
    return f"{_without_query(request).removesuffix('/')}/{name}"


def _without_query(request: Request) -> str:
    # Spelt out: build_absolute_uri would take a "?" or "/../" that a search's path holds for syntax.
    return f"{request.scheme}://{request.get_host()}{escape_uri_path(request.path)}"
