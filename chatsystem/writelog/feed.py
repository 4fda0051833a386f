"""The feed: which entities each drain has changed. With the log it answers "everything after an arrival".

Documented in docs/live.md. Each row begins where the partition's row before it ended. So an unbroken chain of rows
proves that nothing is missing between two arrivals, whatever wrote or removed rows meanwhile. A row contains no texts:
readers take the newest version of each entity from its own table.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from django.db.models import Min

from chatsystem.writelog import bulk
from chatsystem.writelog.events import Event
from chatsystem.writelog.models import FeedRow, Partition

#: Seconds for which the feed goes back.
RETENTION = 7 * 24 * 3600
#: Rows that one statement removes: few, since drains insert meanwhile.
REMOVED_AT_ONCE = 1_000
#: Rows that a reader fetches at once.
READ_AT_ONCE = 200
#: Digits of a number that fits into a column of the database.
DIGITS = 18


class Gap(Exception):
    """Rows are missing: the feed does not go back so far, or a drain of a former version wrote none."""


class Change(NamedTuple):
    """A link of the chain, which ends at `through`. `numbers` maps the path of a parent to its changed children."""

    through: int
    numbers: dict[str, list[int]]


def add(partitions: Sequence[Partition], fresh: Mapping[int, Sequence[Event]]) -> None:
    """Adds a row for each partition, in the drain's transaction. The partitions' `drained_through` has not moved yet.

    Dead events are part of it: readers show them too.
    """
    rows = [
        (f"{row.pk}, {row.drained_through}, {events[-1].arrival}, %s", (_encode(events),))
        for row in partitions
        if (events := fresh[row.pk])
    ]
    bulk.insert(FeedRow, ("partition_id", "after", "through", "changes"), rows)


def _encode(events: Iterable[Event]) -> str:
    """Returns the changed entities as JSON: path of a parent → numbers as text, for example "5-9 12"."""
    changed: dict[str, set[int]] = defaultdict(set)
    for event in events:
        parent, _, name = event.path.rpartition("/")
        # Applications have no events. The path of a dead event may be malformed.
        if parent and name.isdecimal() and len(name) <= DIGITS:
            changed[parent].add(int(name))
    return json.dumps({parent: _runs(sorted(numbers)) for parent, numbers in changed.items()}, separators=(",", ":"))


def _runs(numbers: Iterable[int]) -> str:
    runs: list[list[int]] = []
    for number in numbers:
        if runs and runs[-1][1] == number - 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return " ".join(f"{first}-{last}" if last > first else f"{first}" for first, last in runs)


def _numbers(runs: str) -> Iterator[int]:
    for run in runs.split():
        first, _, last = run.partition("-")
        yield from range(int(first), int(last or first) + 1)


def changes(partition: int, after: int, through: int) -> Iterator[Change]:
    """Yields the links of the chain that lead from `after` to `through`, in order.

    Raises `Gap` where the chain is broken. Everything up to `through` is stored. The first link may begin before
    `after`, and the last one may end behind `through`.
    """
    at = after
    while at < through:
        rows = FeedRow.objects.filter(partition=partition, through__gt=at).order_by("through")
        found = list(rows.values_list("after", "through", "changes")[:READ_AT_ONCE])
        if not found:
            raise Gap
        for begin, end, text in found:
            # Only the first one may begin earlier: the reader has seen part of it.
            if begin > at or (begin < at and at != after):
                raise Gap
            yield Change(end, {parent: list(_numbers(runs)) for parent, runs in json.loads(text).items()})
            at = end
            if at >= through:
                return


def trim(now: int) -> int:
    """Removes rows that ended more than RETENTION seconds before `now`, in microseconds. Returns how many."""
    until = now - RETENTION * 1_000_000
    removed = 0
    for partition in FeedRow.objects.values("partition").annotate(oldest=Min("through")).filter(oldest__lt=until):
        old = FeedRow.objects.filter(partition=partition["partition"], through__lt=until).order_by("through")
        while keys := list(old.values_list("pk", flat=True)[:REMOVED_AT_ONCE]):
            removed += FeedRow.objects.filter(pk__in=keys).delete()[0]
    return removed
