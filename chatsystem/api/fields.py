"""Text as clients send it: a JSON string, kept to the byte."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers


class Text(serializers.CharField):
    """A string of 1 to `max_length` code points. Numbers are not turned into text, and nothing is trimmed.

    CharField's own validators refuse NUL and lone surrogates, which neither the database nor UTF-8 can hold.
    """

    def __init__(self, *, max_length: int, **kwargs: Any) -> None:
        super().__init__(max_length=max_length, trim_whitespace=False, **kwargs)

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str):
            self.fail("invalid")
        return super().to_internal_value(data)
