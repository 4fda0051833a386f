"""Reads: the pending view over the rows of the database. Documented in docs/write-log.md.

Every read asks the pending view before the database. In the other order a drain could commit a row and remove it from
the pending view between the two look-ups, and neither would show it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from functools import partial
from itertools import starmap
from typing import Any, Generic, TypeVar

from django.db.models import QuerySet

from chatsystem.writelog.events import to_datetime, to_micros
from chatsystem.writelog.exceptions import UnknownEntity
from chatsystem.writelog.keys import BEHIND, SUPERSEDED, Keys, partition_of
from chatsystem.writelog.positions import Position
from chatsystem.writelog.redis_client import available, check_flags, pooled_connection
from chatsystem.writelog.scripts import run as run_script

#: An instance of a model, or a `Row`.
E = TypeVar("E", bound=Any)
R = TypeVar("R", bound="Row")

#: The largest number that the database's signed 64-bit columns hold.
MAX_NUMBER = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Pending:
    """The newest acknowledged text of an entity. `created` is None if its create is no longer pending."""

    arrival: int
    created: int | None
    text: str

    @classmethod
    def parse(cls, value: str | None) -> Pending | None:
        if value is None:
            return None
        arrival, created, text = value.split(" ", 2)
        return cls(int(arrival), None if created == "-" else int(created), text)

    def __str__(self) -> str:
        return f"{self.arrival} {'-' if self.created is None else self.created} {self.text}"


@dataclass(frozen=True, slots=True)
class PendingChildren:
    """The pending view of a run of children, with an entry for each number."""

    #: The last number given to a child; None if Redis does not know it.
    last: int | None
    #: Changes whenever anything about the parent's children changes; None if that cannot be told.
    version: str | None
    values: list[Pending | None]
    #: The term (terms.py).
    term: int

    @property
    def position(self) -> Position:
        """From here on, a stream shows every change that the children may not show yet.

        Without a version anything may be missing, so it is before every event.
        """
        return Position(self.term, int(self.version.partition(" ")[0]) if self.version else 0)


@dataclass(frozen=True, slots=True)
class Window:
    """The numbers that a list request asks for: at most `limit` of `low`..`high`, from the low or the high end."""

    low: int
    high: int
    limit: int
    from_low: bool

    def run(self, top: int) -> tuple[int, int]:
        """Returns the first and last number of the page if `top` is the newest; first > last for an empty page."""
        high = min(self.high, top)
        if self.from_low:
            return self.low, min(high, self.low + self.limit - 1)
        return max(self.low, high - self.limit + 1), high

    def rows(self, stored: QuerySet[Any]) -> QuerySet[Any]:
        """Returns the rows of this window, and one above it, which tells whether a page follows."""
        if self.low > self.high:
            return stored.none()
        if self.from_low:
            return stored.filter(number__range=(self.low, min(self.high, self.low + self.limit)))
        one_above = min(self.high, MAX_NUMBER - 1) + 1
        return stored.filter(number__range=(self.low, one_above)).order_by("-number")[: self.limit + 1]


@dataclass(slots=True)
class Row:
    """A child in a list. A model instance would take more than twice the memory and the time."""

    number: int
    created_at: datetime
    last_request_time: datetime


@dataclass(frozen=True, slots=True)
class Run(Generic[R]):
    """A page of children: all rows of `first`..`last`, ascending. `top` is the newest number of the parent."""

    rows: list[R]
    first: int
    last: int
    top: int


@dataclass(frozen=True, slots=True)
class Children(Generic[R]):
    """The children in a window. The pending view has been read; the database is read by `run`."""

    #: As in `PendingChildren`.
    version: str | None
    position: Position
    #: Raises `UnknownEntity` if there is no such parent.
    run: Callable[[], Run[R]]


def pending(token: str, path: str) -> Pending | None:
    """Returns the pending text of one entity; None if everything acknowledged about it is stored."""
    return all_pending(token, [path])[0]


def all_pending(token: str, paths: Sequence[str]) -> list[Pending | None]:
    """Returns the pending texts of several entities of one application, in one round trip."""
    partition = partition_of(token)
    # Bypasses redis-py's client, as `evaluate` does.
    with available(), pooled_connection(partition) as connection:
        connection.send_command("HMGET", Keys(partition).pending, *paths, BEHIND, SUPERSEDED)
        *values, behind, superseded = connection.read_response()
    check_flags(behind=behind, superseded=superseded)
    return [Pending.parse(value) for value in values]


def pending_children(token: str, parent: str, window: Window) -> PendingChildren:
    """Returns the pending view of the children in the window."""
    keys = Keys(partition_of(token))
    arguments = [parent, window.low, window.high, window.limit, "1" if window.from_low else "0"]
    names = [keys.numbers, keys.pending, keys.clock, keys.fence, keys.term]
    last, *rest = run_script(keys.partition, "page", names, arguments)
    check_flags(behind=last == "behind", superseded=last == "superseded")
    version, values, term = rest
    pending = [Pending.parse(value) for value in values]
    return PendingChildren(None if last is None else int(last), version, pending, int(term))


def overlay(row: E | None, pending: Pending | None, text_field: str, blank: Callable[[datetime], E]) -> E | None:
    """Returns the entity as acknowledged: `row` with the pending text if that is newer, or an unsaved row.

    `blank` makes an unsaved row from its time of creation.
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


def children(
    token: str,
    parent: str,
    window: Window,
    stored: Callable[[], QuerySet[Any] | None],
    row: type[R],
    text_field: str,
) -> Children[R]:
    """Returns the children in the window.

    `stored` returns the parent's stored children, or None if the parent is not stored. The fields of `row` are read of
    each child.
    """
    pending = pending_children(token, parent, window)

    def blank(number: int, created: datetime) -> R:
        return row(number, created, created)

    def read(all_stored: QuerySet[Any]) -> dict[int, R]:
        values = window.rows(all_stored).values_list(*(field.name for field in fields(row)))
        return {one.number: one for one in starmap(row, values)}

    def run() -> Run[R]:
        all_stored = stored()
        if pending.last is None and all_stored is None:
            raise UnknownEntity(parent)
        found = {} if all_stored is None else read(all_stored)
        # A Redis that came back with older data knows fewer numbers than the database; one that lost them knows none.
        top = max([pending.last or 0, *found])
        first, last = window.run(top)
        waiting = dict(zip(range(window.run(pending.last or 0)[0], last + 1), pending.values, strict=False))
        merged = (
            overlay(found.get(number), waiting.get(number), text_field, partial(blank, number))
            for number in range(first, last + 1)
        )
        return Run([one for one in merged if one is not None], first, last, top)

    return Children(pending.version, pending.position, run)
