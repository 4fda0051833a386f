"""Pages over all applications, newest last. Documented in docs/api.md."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django.db.models import Q, QuerySet
from rest_framework.request import Request

from applications.models import Application
from chatsystem.api.links import link
from chatsystem.api.pagination import DEFAULT_LIMIT, MAX_LIMIT
from chatsystem.api.params import integer, invalid, single
from chatsystem.writelog import log
from chatsystem.writelog.arrival import to_datetime, to_micros

CURSOR = re.compile(r"(after|before) ([0-9]{1,17}) ([0-9]{1,18})")


@dataclass(frozen=True, slots=True)
class ApplicationPage:
    """A list request by cursor: `limit`, and the opaque `cursor` of a link."""

    request: Request
    limit: int
    #: The side of a row on which the page lies, and that row's `created_at` and id; None for the first page.
    position: tuple[str, int, int] | None

    @classmethod
    def of(cls, request: Request) -> ApplicationPage:
        """Raises a 400 that names the parameter which makes no sense."""
        limit = integer(request, "limit", DEFAULT_LIMIT, 1, MAX_LIMIT)
        cursor = single(request, "cursor")
        return cls(request, limit or DEFAULT_LIMIT, None if cursor is None else _parse(cursor))

    def answer(self, represent: Callable[[list], list]) -> dict[str, Any]:
        """The page as JSON. It ends at the log's horizon: a row could still appear between two that are newer."""
        rows = Application.objects.filter(created_at__lt=to_datetime(log.horizon()))
        backwards = self.position is not None and self.position[0] == "before"
        if self.position is not None:
            rows = _beside(rows, *self.position)
        order = ("-created_at", "-pk") if backwards else ("created_at", "pk")
        # One more than asked for tells whether a page follows.
        found = list(rows.order_by(*order)[: self.limit + 1])
        more = len(found) > self.limit
        page = found[: self.limit]
        if backwards:
            page.reverse()
        follows = backwards or more
        precedes = more if backwards else self.position is not None
        return {
            "next": self._link("after", page[-1]) if page and follows else None,
            "previous": self._link("before", page[0]) if page and precedes else None,
            "results": represent(page),
        }

    def _link(self, side: str, row: Application) -> str:
        cursor = f"{side} {to_micros(row.created_at)} {row.pk}"
        return link(self.request, cursor=base64.urlsafe_b64encode(cursor.encode()).decode())


def _parse(cursor: str) -> tuple[str, int, int]:
    try:
        match = CURSOR.fullmatch(base64.urlsafe_b64decode(cursor.encode()).decode())
    except (binascii.Error, UnicodeError, ValueError):
        match = None
    if match is None or int(match[2]) > to_micros(to_datetime(0).replace(year=9999)):
        raise invalid("cursor", "This is not a cursor that a page of this list gave.")
    return match[1], int(match[2]), int(match[3])


def _beside(rows: QuerySet[Application], side: str, created_at: int, pk: int) -> QuerySet[Application]:
    moment = to_datetime(created_at)
    if side == "after":
        return rows.filter(Q(created_at__gt=moment) | Q(created_at=moment, pk__gt=pk))
    return rows.filter(Q(created_at__lt=moment) | Q(created_at=moment, pk__lt=pk))
