"""Writes many rows in few statements, none too large for the server. The persisters use it.

Documented in docs/write-log.md.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import TypeVar

from django.db import connection
from django.db.models import Model, Q, QuerySet

from chatsystem.writelog.counts import ChildCount
from chatsystem.writelog.events import Change, PoisonEvent, to_datetime

M = TypeVar("M", bound=Model)
T = TypeVar("T")

#: A row to insert: the SQL of its values, with a %s for each text, and the texts.
Row = tuple[str, tuple[str, ...]]

#: Rows that one statement updates. Each row is a CASE branch, and the database tries the branches one by one.
UPDATED_AT_ONCE = 100
#: Parents whose children one statement looks up. Each is a range of the index.
PARENTS_AT_ONCE = 100
#: Characters of text in one statement. A character has up to four bytes, or two when escaped: at most 4 MB of the 16 MB
#: that MySQL takes (max_allowed_packet).
TEXT_AT_ONCE = 1_000_000


def insert(model: type[Model], names: Sequence[str], rows: Iterable[Row]) -> None:
    """Inserts rows: the values of the attributes `names`, and defaults for all others.

    Numbers and times are part of the SQL, since only texts need escaping. A drain spent a fifth of its time on passing
    each value to the driver with executemany, and two thirds in bulk_create.
    """
    quote = connection.ops.quote_name
    fields = [field for field in model._meta.local_concrete_fields if not field.primary_key]
    others = [field for field in fields if field.attname not in names]
    # A column is named like its attribute, for example chat_id.
    columns = ", ".join(quote(name) for name in (*names, *(field.attname for field in others)))
    defaults = [field.get_db_prep_save(field.get_default(), connection) for field in others]
    places = ", %s" * len(defaults)
    with connection.cursor() as cursor:
        for chunk in _chunks(rows, lambda row: sum(map(len, row[1]))):
            values = ", ".join([f"({sql}{places})" for sql, _ in chunk])
            params = [param for _, texts in chunk for param in (*texts, *defaults)]
            cursor.execute(f"INSERT INTO {quote(model._meta.db_table)} ({columns}) VALUES {values}", params)


def moments() -> Callable[[int], str]:
    """Returns a function from an arrival to its SQL literal. It formats each second once."""

    @cache
    def beginning(second: int) -> str:
        return str(connection.ops.adapt_datetimefield_value(to_datetime(second * 1_000_000)))

    def moment(arrival: int) -> str:
        second, micros = divmod(arrival, 1_000_000)
        # No fraction where it is zero, as Django writes it: SQLite compares the texts.
        return f"'{beginning(second)}.{micros:06}'" if micros else f"'{beginning(second)}'"

    return moment


def update(model: type[M], rows: Iterable[M], text_field: str, *other_fields: str) -> None:
    for chunk in _chunks(rows, lambda row: len(getattr(row, text_field))):
        model._default_manager.bulk_update(chunk, [text_field, *other_fields], batch_size=UPDATED_AT_ONCE)


def _chunks(rows: Iterable[T], length: Callable[[T], int]) -> Iterator[list[T]]:
    """Splits rows into chunks of at most TEXT_AT_ONCE characters. `length` counts the characters of a row."""
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


def update_newer(model: type[Model], text_field: str, pairs: Iterable[tuple[Model | None, Change]]) -> None:
    """Writes each change to its stored row unless the row is newer: the last write by arrival wins.

    Raises `PoisonEvent` for a change without a row.
    """
    newer = []
    for row, change in pairs:
        if row is None:
            raise PoisonEvent(f"there is no row to update for {change.path.rpartition('/')[2]}")
        moment = to_datetime(change.arrival)
        if row.last_request_time < moment:  # type: ignore[attr-defined]
            setattr(row, text_field, change.text)
            row.last_request_time = moment  # type: ignore[attr-defined]
            newer.append(row)
    update(model, newer, text_field, "last_request_time")


def numbered(model: type[M], foreign_key: str, numbers: Mapping[int, Sequence[int]]) -> Iterator[QuerySet[M]]:
    """Yields queries for the children with the given numbers: primary key of the parent → numbers."""
    parent_ids = list(numbers)
    for start in range(0, len(parent_ids), PARENTS_AT_ONCE):
        wanted = Q()
        for parent_id in parent_ids[start : start + PARENTS_AT_ONCE]:
            wanted |= Q(**{foreign_key: parent_id, "number__in": numbers[parent_id]})
        yield model._default_manager.filter(wanted)


def store_children(
    model: type[Model],
    foreign_key: str,
    text_field: str,
    parent_ids: Mapping[str, int],
    changes: Sequence[Change],
    count: ChildCount,
) -> dict[int, list[int]]:
    """Stores the changes of numbered children and adds the inserted rows to their parents' counts.

    `parent_ids` maps the path of each stored parent to its primary key. Returns what was stored: primary key → numbers.

    Raises `PoisonEvent` for a change without its parent or its row, and IntegrityError for a number that is stored.
    """
    moment = moments()
    numbers: dict[int, list[int]] = defaultdict(list)
    inserted: Counter[int] = Counter()
    fresh: list[Row] = []
    changed: dict[int, list[Change]] = defaultdict(list)
    for change in changes:
        parent, _, name = change.path.rpartition("/")
        parent_id = parent_ids.get(parent)
        if parent_id is None:
            raise PoisonEvent("its parent is not stored")
        number = int(name)
        numbers[parent_id].append(number)
        if change.created is None:
            changed[parent_id].append(change)
            continue
        inserted[parent_id] += 1
        created = moment(change.created)
        arrived = created if change.arrival == change.created else moment(change.arrival)
        fresh.append((f"{parent_id}, {number}, {created}, {arrived}, %s", (change.text,)))
    insert(model, (f"{foreign_key}_id", "number", "created_at", "last_request_time", text_field), fresh)
    count.add(inserted)

    pairs: list[tuple[Model | None, Change]] = []
    numbers_of = {parent_id: [change.number for change in of_parent] for parent_id, of_parent in changed.items()}
    stored = {
        (getattr(row, f"{foreign_key}_id"), row.number): row  # type: ignore[attr-defined]
        for rows in numbered(model, foreign_key, numbers_of)
        for row in rows
    }
    for parent_id, of_parent in changed.items():
        pairs += [(stored.get((parent_id, change.number)), change) for change in of_parent]
    update_newer(model, text_field, pairs)
    return dict(numbers)
