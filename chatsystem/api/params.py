"""Query parameters, read strictly: what makes no sense is a 400 that names the parameter."""

from __future__ import annotations

import re

from rest_framework.exceptions import ValidationError
from rest_framework.request import Request

from chatsystem.writelog.reads import MAX_NUMBER

DIGITS = re.compile(r"0|[1-9][0-9]{0,18}")


def invalid(name: str, message: str) -> ValidationError:
    return ValidationError({name: [message]})


def single(request: Request, name: str) -> str | None:
    """The parameter's one value, None when it is absent. Twice is refused: nobody can tell which was meant."""
    values = request.query_params.getlist(name)
    if len(values) > 1:
        raise invalid(name, "Give this parameter once.")
    return values[0] if values else None


def integer(request: Request, name: str, default: int | None, low: int, high: int = MAX_NUMBER) -> int | None:
    text = single(request, name)
    if text is None:
        return default
    if not DIGITS.fullmatch(text) or not low <= int(text) <= high:
        raise invalid(name, f"Give a whole number from {low} to {high}.")
    return int(text)


def choice(request: Request, name: str, options: tuple[str, ...]) -> str:
    """One of `options`; the first of them when the parameter is absent."""
    text = single(request, name)
    if text is None:
        return options[0]
    if text not in options:
        raise invalid(name, f"Give one of: {', '.join(options)}.")
    return text
