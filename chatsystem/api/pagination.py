"""Pages of numbered entities. Documented in docs/api.md.

Numbers are dense and nothing is deleted, so a page is a run of numbers: no offset, and while rows arrive no repeat and
no skip.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rest_framework.request import Request

from chatsystem.api.links import link
from chatsystem.api.params import choice, integer, invalid, single
from chatsystem.writelog.reads import MAX_NUMBER, Run, Window

DEFAULT_LIMIT = 50
MAX_LIMIT = 1000
CURSOR = re.compile(r"(after|before(?!-0))-([0-9]{1,19})")


@dataclass(frozen=True, slots=True)
class NumberPage:
    """A list request by number: `limit`, `order`, and `after` / `before`.

    One of the two is a position, from which links lead on in both directions. Both together bound a range; within it
    the position travels in an opaque `cursor`, so that the links keep the range.
    """

    request: Request
    limit: int
    descending: bool
    after: int | None
    before: int | None
    position: tuple[str, int] | None

    @classmethod
    def of(cls, request: Request) -> NumberPage:
        """Raises a 400 that names the parameter which makes no sense."""
        limit = integer(request, "limit", DEFAULT_LIMIT, 1, MAX_LIMIT)
        after = integer(request, "after", None, 0)
        before = integer(request, "before", None, 1)
        cursor = single(request, "cursor")
        position: tuple[str, int] | None = None
        if cursor is not None:
            match = CURSOR.fullmatch(cursor)
            if not match or int(match[2]) > MAX_NUMBER or after is None or before is None:
                raise invalid("cursor", "This is not a cursor that a page of this list gave.")
            position = match[1], int(match[2])
        elif before is None and after is not None:
            position = "after", after
        elif after is None and before is not None:
            position = "before", before
        descending = choice(request, "order", ("asc", "desc")) == "desc"
        return cls(request, limit or DEFAULT_LIMIT, descending, after, before, position)

    @property
    def _ranged(self) -> bool:
        return self.after is not None and self.before is not None

    def window(self) -> Window:
        low, high = self._bounds()
        if self.position is None:
            return Window(low, high, self.limit, from_low=not self.descending)
        side, number = self.position
        if side == "after":
            return Window(max(low, number + 1), high, self.limit, from_low=True)
        return Window(low, min(high, number - 1), self.limit, from_low=False)

    def _bounds(self) -> tuple[int, int]:
        """The numbers between which links may lead."""
        if self.after is not None and self.before is not None:
            return self.after + 1, self.before - 1
        return 1, MAX_NUMBER

    def answer(self, run: Run, represent: Callable[[list], list]) -> dict[str, Any]:
        """The page as JSON, in the asked order, with the links that lead on from it."""
        low, high = self._bounds()
        above = self._link("after", run.last) if run.last < min(high, run.top) else None
        # A page asked for beyond the largest number there can be leads back by a link that is itself a number.
        below = self._link("before", min(run.first, MAX_NUMBER)) if low < run.first and low <= run.top else None
        ordered = run.rows[::-1] if self.descending else run.rows
        return {
            "next": below if self.descending else above,
            "previous": above if self.descending else below,
            "results": represent(ordered),
        }

    def _link(self, side: str, number: int) -> str:
        if self._ranged:
            return link(self.request, cursor=f"{side}-{number}")
        return link(self.request, **{"after": None, "before": None, side: number})
