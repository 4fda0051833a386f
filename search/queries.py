"""One page of a search: what was asked, what was found, and where the pages beside it begin.

Documented in docs/search.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.core.signing import BadSignature, Signer

from search import text
from search.backends import get_backend
from search.backends.base import Hit, Scope

AFTER, BEFORE = "after", "before"


class WrongCursor(Exception):
    """Not a cursor that a page of this search gave."""


@dataclass(frozen=True, slots=True)
class Page:
    count: int
    hits: list[Hit]
    #: Cursors of the neighbours; None where there is none.
    next: str | None
    previous: str | None


def search(query: text.Query, scope: Scope, limit: int, cursor: str | None) -> Page:
    """Raises WrongCursor, and SearchUnavailable."""
    cursors = _Cursors(query, scope)
    side, place = cursors.read(cursor) if cursor is not None else (None, None)
    found = get_backend().search(
        query, scope, limit, after=place if side == AFTER else None, before=place if side == BEFORE else None
    )
    if not found.page:
        return Page(found.count, [], None, None)
    # A page that was reached backwards has one after it, one that was reached forwards has one before it.
    has_next = found.more or side == BEFORE
    has_previous = found.more if side == BEFORE else side == AFTER
    return Page(
        found.count,
        found.page,
        next=cursors.write(AFTER, found.page[-1]) if has_next else None,
        previous=cursors.write(BEFORE, found.page[0]) if has_previous else None,
    )


class _Cursors:
    """Places in the result of one search. The signature binds them to it: they mean nothing in another one."""

    def __init__(self, query: text.Query, scope: Scope) -> None:
        meaning = [settings.SEARCH_BACKEND, query.prefixes, query.phrases, scope.application_token, scope.chat_number]
        self._signer = Signer(salt=f"search cursor {meaning}")

    def write(self, side: str, hit: Hit) -> str:
        return self._signer.sign_object([side, hit.place])

    def read(self, cursor: str) -> tuple[str, list[Any]]:
        try:
            side, place = self._signer.unsign_object(cursor)
        except BadSignature as error:
            raise WrongCursor from error
        return side, place
