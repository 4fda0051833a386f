"""What the three persisters share: how an update becomes a row. Documented in docs/write-log.md."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

from django.db.models import Model

from chatsystem.writelog import bulk
from chatsystem.writelog.arrival import to_datetime
from chatsystem.writelog.counts import ChildCount
from chatsystem.writelog.events import Change, PoisonEvent


def update_newer(model: type[Model], text_field: str, pairs: Iterable[tuple[Model | None, Change]]) -> None:
    """Writes each change over its stored row unless the row is newer: the last writer by arrival wins.

    Raises `PoisonEvent` for a change whose row is not there.
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
    bulk.update(model, newer, text_field, "last_request_time")


def store_children(
    model: type[Model],
    foreign_key: str,
    text_field: str,
    parent_ids: Mapping[str, int],
    changes: Sequence[Change],
    count: ChildCount,
) -> dict[int, list[int]]:
    """Writes the changes of numbered children, and moves their parents' count by what was really inserted.

    `parent_ids` holds the stored parents: path → primary key. Returns what was written: primary key → numbers. Raises
    `PoisonEvent` for a change whose parent, or whose row to update, is not there, and IntegrityError for a number that
    is stored already.
    """
    moment = bulk.moments()
    numbers: dict[int, list[int]] = defaultdict(list)
    inserted: Counter[int] = Counter()
    fresh: list[bulk.Row] = []
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
    bulk.insert(model, (f"{foreign_key}_id", "number", "created_at", "last_request_time", text_field), fresh)
    count.move(inserted)

    pairs: list[tuple[Model | None, Change]] = []
    for parent_id, of_parent in changed.items():
        rows = model._default_manager.filter(
            **{foreign_key: parent_id, "number__in": [change.number for change in of_parent]}
        )
        stored = {row.number: row for row in rows}
        pairs += [(stored.get(change.number), change) for change in of_parent]
    update_newer(model, text_field, pairs)
    return dict(numbers)
