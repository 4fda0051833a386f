"""Reads: what is pending over what is stored. Documented in docs/write-log.md.

The pending view is always asked before the database. The other way round, a row could be committed and leave the
pending view between the two, and neither would show it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from datetime import datetime
from functools import partial
from itertools import starmap
from typing import Any, Generic, TypeVar

from django.db.models import QuerySet

from chatsystem.writelog import log
from chatsystem.writelog.arrival import to_datetime, to_micros
from chatsystem.writelog.log import Pending

#: An instance of a model, or a `Row`.
E = TypeVar("E", bound=Any)
R = TypeVar("R", bound="Row")

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

    def rows(self, stored: QuerySet[Any]) -> QuerySet[Any]:
        """The rows of this window, and one above it, which tells whether a page follows."""
        if self.low > self.high:
            return stored.none()
        if self.from_low:
            return stored.filter(number__range=(self.low, min(self.high, self.low + self.limit)))
        one_above = min(self.high, MAX_NUMBER - 1) + 1
        return stored.filter(number__range=(self.low, one_above)).order_by("-number")[: self.limit + 1]


@dataclass(slots=True)
class Row:
    """A child in a list: what is shown of it. A model's instance takes more than twice the memory and the time."""

    number: int
    created_at: datetime
    last_request_time: datetime


@dataclass(frozen=True, slots=True)
class Run(Generic[R]):
    """A page of children: `rows` ascend, all of `first`..`last`; `top` is the newest number there is."""

    rows: list[R]
    first: int
    last: int
    top: int


def overlay(row: E | None, pending: Pending | None, text_field: str, blank: Callable[[datetime], E]) -> E | None:
    """The entity as acknowledged: `row` with the pending text where that is newer, or a row not yet stored.

    `blank` makes one that was created at the moment it is told.
    """
    if pending is None:
        return row
    if row is None:
        if pending.created is None:
            return None
        row = blank(to_datetime(pending.created))
    elif to_micros(row.last_request_time) >= pending.arrival:
        return row
    setattr(row, text_field, pending.text)
    row.last_request_time = to_datetime(pending.arrival)
    return row


@dataclass(frozen=True, slots=True)
class Children(Generic[R]):
    """The children of a parent that a window asks for. What is pending is read, and what is stored is not yet."""

    #: Another one as soon as any of them is another; None when that cannot be told.
    version: str | None
    #: Raises `UnknownEntity` when there is no such parent.
    run: Callable[[], Run[R]]


def children(
    token: str,
    parent: str,
    window: Window,
    stored: Callable[[], QuerySet[Any] | None],
    row: type[R],
    text_field: str,
) -> Children[R]:
    """`stored` gives the parent's children, None when it is not stored; `row` has the fields that are read of each."""
    pending = log.pending_children(token, parent, window.low, window.high, window.limit, window.from_low)

    def blank(number: int, created: datetime) -> R:
        return row(number, created, created)

    def read(all_stored: QuerySet[Any]) -> dict[int, R]:
        values = window.rows(all_stored).values_list(*(field.name for field in fields(row)))
        return {one.number: one for one in starmap(row, values)}

    def run() -> Run[R]:
        all_stored = stored()
        if pending.last is None and all_stored is None:
            raise log.UnknownEntity(parent)
        found = {} if all_stored is None else read(all_stored)
        # A Redis that came back older than the database knows fewer numbers; one that lost them knows none.
        top = max([pending.last or 0, *found])
        first, last = window.run(top)
        waiting = dict(zip(range(window.run(pending.last or 0)[0], last + 1), pending.values, strict=False))
        merged = (
            overlay(found.get(number), waiting.get(number), text_field, partial(blank, number))
            for number in range(first, last + 1)
        )
        return Run([one for one in merged if one is not None], first, last, top)

    return Children(pending.version, run)
