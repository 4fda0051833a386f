"""One query's hits, in order, from any place on. Documented in docs/search.md."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from django.conf import settings
from elasticsearch import ApiError, TransportError

from search.backends.base import Place, Scope
from search.backends.elasticsearch import indexes
from search.backends.elasticsearch.client import client
from search.backends.elasticsearch.document import PREFIX_LENGTH
from search.text import Query

BEST_FIRST = [{"_score": "desc"}, {"created_at": "desc"}, {"id": "desc"}]
WORST_FIRST = [{"_score": "asc"}, {"created_at": "asc"}, {"id": "asc"}]

#: Hits that one request may skip; more than that the cluster refuses.
STRIDE = 10_000
#: How long the cluster keeps a point in time that nobody closed.
KEEP = "30s"


class View:
    """The hits of one query: as of now, or as of a point in time, where no document comes between two requests."""

    def __init__(self, query: Query, scope: Scope, **target: Any) -> None:
        self._query = conditions(query, scope)
        self._target = target

    def page(self, order: list[Any], size: int, beyond: list[Any] | None = None) -> Any:
        """The hits beyond those sort values, and the number of all hits."""
        return self._search(self._query, order, size, beyond, track_total_hits=True)

    def anchor(self, place: Place) -> list[Any] | None:
        """The sort values of the hit at a place; of the one with its number, if it is no hit any more."""
        id, number = place
        found = self._search({"bool": {"must": self._query, "filter": {"term": {"id": id}}}}, BEST_FIRST, 1)
        return _last(found) or self._numbered(number)

    def _numbered(self, number: int) -> list[Any] | None:
        """The sort values of a hit by the number of hits before it; None when there are fewer."""
        beyond: list[Any] | None = None
        left = number + 1
        while left:
            step = min(left, STRIDE)
            found = self._search(self._query, BEST_FIRST, step, beyond, source=False)
            if len(found["hits"]["hits"]) < step:
                return None
            beyond = _last(found)
            left -= step
        return beyond

    def _search(
        self,
        query: dict[str, Any],
        order: list[Any],
        size: int,
        beyond: list[Any] | None = None,
        *,
        source: bool = True,
        track_total_hits: bool = False,
    ) -> Any:
        return client().search(
            **self._target,
            query=query,
            sort=order,
            size=size,
            source=source,
            search_after=beyond,
            track_total_hits=track_total_hits,
            # It stops by itself when nobody waits any more.
            timeout=f"{settings.ELASTICSEARCH_TIMEOUT * 1000:.0f}ms",
            allow_partial_search_results=False if "index" in self._target else None,
        )


@contextmanager
def point_in_time(query: Query, scope: Scope) -> Iterator[View]:
    id = client().open_point_in_time(index=indexes.live(), keep_alive=KEEP, allow_partial_search_results=False)["id"]
    try:
        yield View(query, scope, pit={"id": id})
    finally:
        # Otherwise the cluster closes it by itself.
        with suppress(ApiError, TransportError):
            client().close_point_in_time(id=id)


def conditions(query: Query, scope: Scope) -> dict[str, Any]:
    must: list[dict[str, Any]] = [{"term": {"prefixes": prefix[:PREFIX_LENGTH]}} for prefix in query.prefixes]
    must += [{"match_phrase": {"runs": " ".join(phrase)}} for phrase in query.phrases]
    # What is in a filter has no part in the score.
    within: list[dict[str, Any]] = [
        {"prefix": {"long_words": prefix}} for prefix in query.prefixes if len(prefix) > PREFIX_LENGTH
    ]
    if scope.application_token is not None:
        within.append({"term": {"application_token": scope.application_token}})
    if scope.chat_number is not None:
        within.append({"term": {"chat_number": scope.chat_number}})
    return {"bool": {"must": must, "filter": within}}


def _last(found: Any) -> list[Any] | None:
    hits = found["hits"]["hits"]
    # A point in time adds a value of its own to the three.
    return hits[-1]["sort"][: len(BEST_FIRST)] if hits else None
