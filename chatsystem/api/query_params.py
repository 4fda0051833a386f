"""Query parameters: strict parsing, and the links that carry them. Documented in docs/api.md."""

from __future__ import annotations

import re
from typing import Protocol

from django.http import QueryDict
from django.utils.encoding import escape_uri_path
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request

from chatsystem.writelog.reads import MAX_NUMBER

DIGITS = re.compile(r"0|[1-9][0-9]{0,18}")


class HasQuery(Protocol):
    """A request of DRF, or one of the live process."""

    @property
    def query_params(self) -> QueryDict: ...


def invalid(name: str, message: str) -> ValidationError:
    """Returns a 400 that names the parameter or header."""
    return ValidationError({name: [message]})


def single(request: HasQuery, name: str) -> str | None:
    """Returns the parameter's value, or None when it is absent. Raises 400 when it is repeated."""
    values = request.query_params.getlist(name)
    if len(values) > 1:
        raise invalid(name, "Give this parameter once.")
    return values[0] if values else None


def integer(request: HasQuery, name: str, default: int | None, low: int, high: int = MAX_NUMBER) -> int | None:
    """Returns the parameter as a number from `low` to `high`, or `default` when it is absent. Raises 400."""
    text = single(request, name)
    if text is None:
        return default
    if not DIGITS.fullmatch(text) or not low <= int(text) <= high:
        raise invalid(name, f"Give a whole number from {low} to {high}.")
    return int(text)


def choice(request: Request, name: str, options: tuple[str, ...]) -> str:
    """Returns one of `options`, the first when the parameter is absent. Raises 400."""
    text = single(request, name)
    if text is None:
        return options[0]
    if text not in options:
        raise invalid(name, f"Give one of: {', '.join(options)}.")
    return text


def link(request: Request, **params: object) -> str:
    """Returns the request's URL with these parameters replaced. None removes a parameter."""
    query = request.query_params.copy()
    for name, value in params.items():
        query.pop(name, None)
        if value is not None:
            query[name] = str(value)
    url = own_url(request)
    return f"{url}?{query.urlencode()}" if query else url


def own_url(request: Request) -> str:
    """Returns the request's URL without its query, on the host that the client used."""
    # Not build_absolute_uri: a search's path may hold "?" or "/../", which it would treat as syntax.
    return f"{request.scheme}://{request.get_host()}{escape_uri_path(request.path)}"
