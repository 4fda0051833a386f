"""Many rows, few statements, and none that is too large for the server. Documented in docs/write-log.md."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from typing import TypeVar

from django.db import connection
from django.db.models import Model

from chatsystem.writelog.arrival import to_datetime

M = TypeVar("M", bound=Model)
T = TypeVar("T")

#: A row to insert: the SQL of its values, with a %s for each of its texts, and those.
Row = tuple[str, tuple[str, ...]]

#: Rows that one statement updates: each has a branch in it, which the database tries one after the other.
UPDATED_AT_ONCE = 100
#: Characters of text in one statement. Each has four bytes at most, and two when it is escaped: 4 MB, of the 16 MB that
#: MySQL takes (max_allowed_packet).
TEXT_AT_ONCE = 1_000_000


def insert(model: type[Model], names: Sequence[str], rows: Iterable[Row]) -> None:
    """Inserts rows: the values of the attributes `names`. The rest has its defaults.

    Numbers and moments stand in the SQL, as only texts have to be escaped: a drain spent a fifth of its time on handing
    each value to the driver, as executemany does, and two thirds on what bulk_create does with it.
    """
    quote = connection.ops.quote_name
    fields = [field for field in model._meta.local_concrete_fields if not field.primary_key]
    others = [field for field in fields if field.attname not in names]
    # A field's column has the name of its attribute: chat_id, for one.
    columns = ", ".join(quote(name) for name in (*names, *(field.attname for field in others)))
    defaults = [field.get_db_prep_save(field.get_default(), connection) for field in others]
    places = ", %s" * len(defaults)
    with connection.cursor() as cursor:
        for chunk in _chunks(rows, lambda row: sum(map(len, row[1]))):
            values = ", ".join([f"({sql}{places})" for sql, _ in chunk])
            params = [param for _, texts in chunk for param in (*texts, *defaults)]
            cursor.execute(f"INSERT INTO {quote(model._meta.db_table)} ({columns}) VALUES {values}", params)


def moments() -> Callable[[int], str]:
    """Makes of an arrival its SQL, of which each second's is made once."""

    @cache
    def beginning(second: int) -> str:
        return str(connection.ops.adapt_datetimefield_value(to_datetime(second * 1_000_000)))

    def moment(arrival: int) -> str:
        second, micros = divmod(arrival, 1_000_000)
        # Without a fraction where it is zero, as Django has it: SQLite compares the texts.
        return f"'{beginning(second)}.{micros:06}'" if micros else f"'{beginning(second)}'"

    return moment


def update(model: type[M], rows: Iterable[M], text_field: str, *other_fields: str) -> None:
    for chunk in _chunks(rows, lambda row: len(getattr(row, text_field))):
        model._default_manager.bulk_update(chunk, [text_field, *other_fields], batch_size=UPDATED_AT_ONCE)


def _chunks(rows: Iterable[T], length: Callable[[T], int]) -> Iterator[list[T]]:
    """`length` is that of a row's texts."""
    chunk: list[T] = []
    size = 0
    for row in rows:
        text = length(row)
        if chunk and size + text > TEXT_AT_ONCE:
            yield chunk
            chunk, size = [], 0
        chunk.append(row)
        size += text
    if chunk:
        yield chunk
