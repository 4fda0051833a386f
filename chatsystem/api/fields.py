"""Text as clients send it, a JSON string kept to the byte, and moments as they are told."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from rest_framework import serializers
from rest_framework.validators import ProhibitSurrogateCharactersValidator


def refuse_surrogates(text: str) -> None:
    """DRF's validator looks at each character, which was half the time that reading a batch took."""
    try:
        text.encode()
    except UnicodeEncodeError:
        ProhibitSurrogateCharactersValidator()(text)


class Text(serializers.CharField):
    """A string of 1 to `max_length` code points. Numbers are not turned into text, and nothing is trimmed.

    NUL and lone surrogates are refused, which neither the database nor UTF-8 can hold.
    """

    def __init__(self, *, max_length: int, **kwargs: Any) -> None:
        super().__init__(max_length=max_length, trim_whitespace=False, **kwargs)
        self.validators = [
            refuse_surrogates if isinstance(validator, ProhibitSurrogateCharactersValidator) else validator
            for validator in self.validators
        ]

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str):
            self.fail("invalid")
        return super().to_internal_value(data)


class Moment(serializers.DateTimeField):
    """A moment in UTC, to the microsecond: `2026-01-31T23:59:59.000001Z`. Only told, never taken."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(read_only=True, **kwargs)

    def to_representation(self, value: datetime) -> str:
        # A page has two of them for each row: DRF would look up the time zone each time.
        return f"{value.isoformat('T', 'microseconds').removesuffix('+00:00')}Z"
