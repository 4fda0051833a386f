"""Reads: what is pending over what is stored. Documented in docs/write-log.md.

The pending view is always asked before the database. The other way round, a row could be committed and leave the
pending view between the two, and neither would show it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Generic, TypeVar

from django.db.models import Model, QuerySet

from chatsystem.writelog import log
from chatsystem.writelog.arrival import to_datetime, to_micros
from chatsystem.writelog.log import Pending

M = TypeVar("M", bound=Model)

#: The largest number that the database's signed 64-bit columns hold.
MAX_NUMBER = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Window:
    """Which numbers a list request asks for: at most `limit` of `low`..`high`, from the low or from the high end."""

    low: int
    high: int
    limit: int
    from_low: bool

    def run(self, top: int) -> tuple[int, int]:
        """First and last number of the page when `top` is the newest there is; first > last means an empty page."""
        high = min(self.high, top)
        if self.from_low:
            return self.low, min(high, self.low + self.limit - 1)
        return max(self.low, high - self.limit + 1), high

    def rows(self, stored: QuerySet[M]) -> QuerySet[M]:
        """The rows of this window, and one above it, which tells whether a page follows."""
        if self.low > self.high:
            return stored.none()
        if self.from_low:
            return stored.filter(number__range=(self.low, min(self.high, self.low + self.limit)))
        one_above = min(self.high, MAX_NUMBER - 1) + 1
        return stored.filter(number__range=(self.low, one_above)).order_by("-number")[: self.limit + 1]


@dataclass(frozen=True, slots=True)
class Run(Generic[M]):
    """A page of children: `rows` ascend, all of `first`..`last`; `top` is the newest number there is."""

    rows: list[M]
    first: int
    last: int
    top: int


def overlay(row: M | None, pending: Pending | None, text_field: str, blank: Callable[[], M]) -> M | None:
    """The entity as acknowledged: `row` with the pending text where that is newer, or a row not yet stored."""
    if pending is None:
        return row
    if row is None:
        if pending.created is None:
            return None
        row = blank()
        row.created_at = to_datetime(pending.created)  # type: ignore[attr-defined]
    elif to_micros(row.last_request_time) >= pending.arrival:  # type: ignore[attr-defined]
        return row
    setattr(row, text_field, pending.text)
    row.last_request_time = to_datetime(pending.arrival)  # type: ignore[attr-defined]
    return row


@dataclass(frozen=True, slots=True)
class Children(Generic[M]):
    """The children of a parent that a window asks for. What is pending is read, and what is stored is not yet."""

    #: Another one as soon as any of them is another; None when that cannot be told.
    version: str | None
    #: Raises `UnknownEntity` when there is no such parent.
    run: Callable[[], Run[M]]


def children(
    token: str,
    parent: str,
    window: Window,
    stored: Callable[[], QuerySet[M] | None],
    text_field: str,
    blank: Callable[[int], M],
) -> Children[M]:
    """`stored` gives the parent's rows, None when it is not stored; `blank` makes an unsaved row with a number."""
    pending = log.pending_children(token, parent, window.low, window.high, window.limit, window.from_low)

    def run() -> Run[M]:
        rows = stored()
        if pending.last is None and rows is None:
            raise log.UnknownEntity(parent)
        found = {} if rows is None else {row.number: row for row in window.rows(rows)}  # type: ignore[attr-defined]
        # A Redis that came back older than the database knows fewer numbers; one that lost them knows none.
        top = max([pending.last or 0, *found])
        first, last = window.run(top)
        waiting = dict(zip(range(window.run(pending.last or 0)[0], last + 1), pending.values, strict=False))
        merged = (
            overlay(found.get(number), waiting.get(number), text_field, partial(blank, number))
            for number in range(first, last + 1)
        )
        return Run([row for row in merged if row is not None], first, last, top)

    return Children(pending.version, run)
