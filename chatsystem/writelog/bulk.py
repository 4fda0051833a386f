"""Many rows, few statements, and none that is too large for the server. Documented in docs/write-log.md."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

from django.db.models import Model

M = TypeVar("M", bound=Model)

#: Rows that one statement updates: each has a branch in it, which the database tries one after the other.
UPDATED_AT_ONCE = 100
#: Bytes of text in one statement. Escaping may double them: 4 MB, of the 16 MB that MySQL takes (max_allowed_packet).
TEXT_AT_ONCE = 2_000_000


def create(model: type[M], rows: Iterable[M], text_field: str) -> None:
    """Inserts the rows. Their primary keys are not to be relied on: MySQL does not tell them."""
    for chunk in _chunks(rows, text_field):
        model._default_manager.bulk_create(chunk)


def update(model: type[M], rows: Iterable[M], text_field: str, *other_fields: str) -> None:
    for chunk in _chunks(rows, text_field):
        model._default_manager.bulk_update(chunk, [text_field, *other_fields], batch_size=UPDATED_AT_ONCE)


def _chunks(rows: Iterable[M], text_field: str) -> Iterator[list[M]]:
    chunk: list[M] = []
    size = 0
    for row in rows:
        text = len(getattr(row, text_field).encode())
        if chunk and size + text > TEXT_AT_ONCE:
            yield chunk
            chunk, size = [], 0
        chunk.append(row)
        size += text
    if chunk:
        yield chunk
