"""Pages of lists, and the opaque cursors in their links. Documented in docs/api.md.

`NumberPage` serves lists that are ordered by number, `CursorPage` serves every other order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from django.core.signing import BadSignature, Signer
from rest_framework.request import Request

from chatsystem.api.query_params import choice, integer, invalid, link, single
from chatsystem.writelog.reads import MAX_NUMBER, Run, Window

DEFAULT_LIMIT = 50
MAX_LIMIT = 1000
AFTER, BEFORE = "after", "before"


def limit_of(request: Request) -> int:
    return integer(request, "limit", DEFAULT_LIMIT, 1, MAX_LIMIT) or DEFAULT_LIMIT


class Cursors:
    """Encodes positions in one list as cursors. They are signed: a cursor of another list is rejected."""

    def __init__(self, *meaning: object) -> None:
        self._signer = Signer(salt=f"cursor {meaning}")

    def write(self, side: str, position: Any) -> str:
        """Returns the cursor of the page on that side of `position`, which must be JSON."""
        return self._signer.sign_object([side, position])

    def read(self, request: Request) -> tuple[str, Any] | None:
        """Returns the side and position in the request's cursor, or None without one. Raises 400 for a bad cursor."""
        cursor = single(request, "cursor")
        if cursor is None:
            return None
        try:
            side, position = self._signer.unsign_object(cursor)
        except BadSignature:
            raise invalid("cursor", "This cursor does not come from a link of this list.") from None
        return side, position


@dataclass(frozen=True, slots=True)
class CursorPage:
    """A list request by `limit` and `cursor`. The page follows position `after`, or precedes position `before`."""

    request: Request
    limit: int
    cursors: Cursors
    after: Any
    before: Any

    @classmethod
    def of(cls, request: Request, *meaning: object) -> CursorPage:
        """Parses the request. `meaning` identifies the list. Raises a 400 that names the invalid parameter."""
        limit = limit_of(request)
        cursors = Cursors(*meaning)
        side, position = cursors.read(request) or (None, None)
        return cls(request, limit, cursors, position if side == AFTER else None, position if side == BEFORE else None)

    def links(self, positions: Sequence[Any], more: bool) -> dict[str, str | None]:
        """Returns `next` and `previous` of the page whose rows have these positions, in order.

        `more` says whether further rows lie beyond the page, in the direction in which it was read.
        """
        backwards = self.before is not None
        has_next = backwards or more
        has_previous = more if backwards else self.after is not None
        return {
            "next": self._link(AFTER, positions[-1]) if positions and has_next else None,
            "previous": self._link(BEFORE, positions[0]) if positions and has_previous else None,
        }

    def _link(self, side: str, position: Any) -> str:
        return link(self.request, cursor=self.cursors.write(side, position))


@dataclass(frozen=True, slots=True)
class NumberPage:
    """A list request by number: `limit`, `order`, `after` and `before`.

    Numbers are dense and nothing is deleted, so a page is a run of numbers. It needs no offset, and pages neither
    repeat nor skip rows while rows arrive.

    `after` or `before` alone is a position, and links replace it in both directions. Both together bound a range. Then
    the position travels in a cursor, so that links keep the range.
    """

    request: Request
    limit: int
    descending: bool
    after: int | None
    before: int | None
    position: tuple[str, int] | None

    @classmethod
    def of(cls, request: Request) -> NumberPage:
        """Parses the request. Raises a 400 that names the invalid parameter."""
        limit = limit_of(request)
        after = integer(request, AFTER, None, 0)
        before = integer(request, BEFORE, None, 1)
        position: tuple[str, int] | None = _range_cursors().read(request)
        if position is not None and (after is None or before is None):
            raise invalid("cursor", "A cursor needs the 'after' and 'before' of its link.")
        if before is None and after is not None:
            position = AFTER, after
        elif after is None and before is not None:
            position = BEFORE, before
        descending = choice(request, "order", ("asc", "desc")) == "desc"
        return cls(request, limit, descending, after, before, position)

    def window(self) -> Window:
        """Returns the numbers to read."""
        low, high = self._bounds()
        if self.position is None:
            return Window(low, high, self.limit, from_low=not self.descending)
        side, number = self.position
        if side == AFTER:
            return Window(max(low, number + 1), high, self.limit, from_low=True)
        return Window(low, min(high, number - 1), self.limit, from_low=False)

    def _bounds(self) -> tuple[int, int]:
        """Returns the lowest and the highest number that links may reach."""
        if self.after is not None and self.before is not None:
            return self.after + 1, self.before - 1
        return 1, MAX_NUMBER

    def answer(self, run: Run, represent: Callable[[list], list]) -> dict[str, Any]:
        """Returns the page in the requested order, with its links."""
        low, high = self._bounds()
        above = self._link(AFTER, run.last) if run.last < min(high, run.top) else None
        # `after=MAX_NUMBER` is a valid request. Its link back must be a valid number too.
        below = self._link(BEFORE, min(run.first, MAX_NUMBER)) if low < run.first and low <= run.top else None
        ordered = run.rows[::-1] if self.descending else run.rows
        return {
            "next": below if self.descending else above,
            "previous": above if self.descending else below,
            "results": represent(ordered),
        }

    def _link(self, side: str, number: int) -> str:
        if self.after is not None and self.before is not None:
            return link(self.request, cursor=_range_cursors().write(side, number))
        return link(self.request, **{AFTER: None, BEFORE: None, side: number})


def _range_cursors() -> Cursors:
    return Cursors("numbers")
