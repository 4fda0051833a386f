"""Path converters and routes. A malformed token or number matches no route, so it is the same 404 as an unknown one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.urls import URLPattern, path, register_converter

from chatsystem.writelog.reads import MAX_NUMBER


class Token:
    regex = "[0-9a-f]{32}"

    def to_python(self, value: str) -> str:
        return value

    def to_url(self, value: str) -> str:
        return value


class Number:
    regex = "[1-9][0-9]{0,18}"

    def to_python(self, value: str) -> int:
        number = int(value)
        if number > MAX_NUMBER:
            raise ValueError(value)
        return number

    def to_url(self, value: int) -> str:
        return str(value)


register_converter(Token, "token")
register_converter(Number, "number")


def route(pattern: str, view: Callable[..., Any], name: str) -> list[URLPattern]:
    """Returns the route without a trailing slash, which links use, and the same with one."""
    return [path(pattern, view, name=name), path(f"{pattern}/", view)]
