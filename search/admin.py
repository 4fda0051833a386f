"""What the messages' admin asks of search. Documented in docs/search.md."""

from __future__ import annotations

from search import text
from search.backends import get_backend
from search.backends.base import Scope, SearchUnavailable

#: Messages that a search in the admin lists.
BEST = 500


def best_matches(words: str) -> list[int] | None:
    """The ids of the best of those messages whose body matches, in every application; None when nobody can tell."""
    try:
        hits = get_backend().search(text.parse(words), Scope(), BEST)
    except SearchUnavailable:
        return None
    return [hit.document.id for hit in hits.page]
