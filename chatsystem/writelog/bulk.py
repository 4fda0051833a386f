"""Many rows, few statements, and none that is too large for the server. Documented in docs/write-log.md."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

from django.db import connection
from django.db.models import Model

from chatsystem.writelog.arrival import to_datetime

M = TypeVar("M", bound=Model)

#: Rows that one statement updates: each has a branch in it, which the database tries one after the other.
UPDATED_AT_ONCE = 100
#: Bytes of text in one statement. Escaping may double them: 4 MB, of the 16 MB that MySQL takes (max_allowed_packet).
TEXT_AT_ONCE = 2_000_000


def insert(model: type[Model], names: Sequence[str], rows: Iterable[tuple[Any, ...]]) -> None:
    """Inserts rows: the values of the attributes `names`, moments as `moments` makes them. The rest has its defaults.

    By the driver's executemany, which minds the size of a packet. Two thirds of a drain's time went into what Django's
    bulk_create does with each value.
    """
    fields = [field for field in model._meta.local_concrete_fields if not field.primary_key]
    others = [field for field in fields if field.attname not in names]
    defaults = tuple(field.get_db_prep_save(field.get_default(), connection) for field in others)
    values = [row + defaults for row in rows]
    if not values:
        return
    quote = connection.ops.quote_name
    # A field's column has the name of its attribute: chat_id, for one.
    columns = [quote(name) for name in (*names, *(field.attname for field in others))]
    places = ", ".join(["%s"] * len(columns))
    into = f"{quote(model._meta.db_table)} ({', '.join(columns)})"
    with connection.cursor() as cursor:
        cursor.executemany(f"INSERT INTO {into} VALUES ({places})", values)


def moments() -> Callable[[int], Any]:
    """Makes of an arrival what the database's driver takes."""
    adapt = connection.ops.adapt_datetimefield_value
    return lambda arrival: adapt(to_datetime(arrival))


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
