"""Text as clients send it, a JSON string kept to the byte, and moments as they are told."""

from __future__ import annotations

from datetime import datetime
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


class Moment(serializers.DateTimeField):
    """A moment in UTC, to the microsecond: `2026-01-31T23:59:59.000001Z`. Only told, never taken."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(read_only=True, **kwargs)

    def to_representation(self, value: datetime) -> str:
        # A page has two of them for each row: DRF would look up the time zone each time.
        return f"{value.replace(tzinfo=None).isoformat(timespec='microseconds')}Z"
