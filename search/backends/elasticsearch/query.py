"""Finds the hits of a query, one page at a time. Documented in docs/search.md."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from django.conf import settings
from elasticsearch import ApiError, TransportError

from search.backends.base import Hit, Hits, Position, Scope
from search.backends.elasticsearch.client import client
from search.backends.elasticsearch.document import PREFIX_LENGTH, from_source
from search.tokenizer import Query

BEST_FIRST = [{"_score": "desc"}, {"created_at": "desc"}, {"id": "desc"}]
WORST_FIRST = [{"_score": "asc"}, {"created_at": "asc"}, {"id": "asc"}]

#: The number of hits that one request may skip. The cluster rejects more.
MAX_WINDOW = 10_000
#: How long the cluster keeps a point in time that nobody closed.
KEEP_ALIVE = "30s"


def first_page(query: Query, scope: Scope, alias: str, limit: int) -> Hits:
    return _hits(View(query, scope, index=alias).page(BEST_FIRST, limit + 1), limit, 0)


def page_after(query: Query, scope: Scope, alias: str, limit: int, position: Position) -> Hits:
    with _point_in_time(query, scope, alias) as view:
        if anchor := view.anchor(position):
            return _hits(view.page(BEST_FIRST, limit + 1, anchor), limit, position[1] + 1)
        count = view.page(BEST_FIRST, 0)["hits"]["total"]["value"]
    return Hits(count, [], False)


def page_before(query: Query, scope: Scope, alias: str, limit: int, position: Position) -> Hits:
    with _point_in_time(query, scope, alias) as view:
        found = view.page(WORST_FIRST, limit + 1, view.anchor(position))
    size = min(len(found["hits"]["hits"]), limit)
    return _hits(found, limit, max(position[1] - size, 0), backwards=True)


class View:
    """The hits of one query: now, or at a point in time, so that no document arrives between two requests."""

    def __init__(self, query: Query, scope: Scope, **target: Any) -> None:
        self._query = _conditions(query, scope)
        self._target = target

    def page(self, order: list[Any], size: int, beyond: list[Any] | None = None) -> Any:
        """Returns the hits beyond these sort values, with the total number of hits."""
        return self._search(self._query, order, size, beyond, track_total_hits=True)

    def anchor(self, position: Position) -> list[Any] | None:
        """Returns the sort values of the hit at a position: found by its id, or by its number if it is no hit now."""
        id, number = position
        found = self._search({"bool": {"must": self._query, "filter": {"term": {"id": id}}}}, BEST_FIRST, 1)
        return _last(found) or self._numbered(number)

    def _numbered(self, number: int) -> list[Any] | None:
        """Returns the sort values of the hit with `number` hits before it; None if there are fewer hits."""
        beyond: list[Any] | None = None
        left = number + 1
        while left:
            step = min(left, MAX_WINDOW)
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
            # Scores use the statistics of all shards, so a hit ranks the same in each. With one shard it costs nothing.
            search_type="dfs_query_then_fetch",
            query=query,
            sort=order,
            size=size,
            source=source,
            search_after=beyond,
            track_total_hits=track_total_hits,
            # The cluster stops the search when nobody waits for it any more.
            timeout=f"{settings.ELASTICSEARCH_TIMEOUT * 1000:.0f}ms",
            # A node that died holds a part of the hits. Without it, the page would be wrong and look complete.
            allow_partial_search_results=False,
        )


@contextmanager
def _point_in_time(query: Query, scope: Scope, alias: str) -> Iterator[View]:
    id = client().open_point_in_time(index=alias, keep_alive=KEEP_ALIVE, allow_partial_search_results=False)["id"]
    try:
        yield View(query, scope, pit={"id": id})
    finally:
        # If this fails, the cluster closes it after KEEP_ALIVE.
        with suppress(ApiError, TransportError):
            client().close_point_in_time(id=id)


def _conditions(query: Query, scope: Scope) -> dict[str, Any]:
    must: list[dict[str, Any]] = [{"term": {"prefixes": prefix[:PREFIX_LENGTH]}} for prefix in query.prefixes]
    must += [{"match_phrase": {"runs": " ".join(phrase)}} for phrase in query.phrases]
    # Filters do not affect the score.
    filters: list[dict[str, Any]] = [
        {"prefix": {"long_words": prefix}} for prefix in query.prefixes if len(prefix) > PREFIX_LENGTH
    ]
    if scope.application_token is not None:
        filters.append({"term": {"application_token": scope.application_token}})
    if scope.chat_number is not None:
        filters.append({"term": {"chat_number": scope.chat_number}})
    return {"bool": {"must": must, "filter": filters}}


def _last(found: Any) -> list[Any] | None:
    """Returns the sort values of the last hit."""
    hits = found["hits"]["hits"]
    # A point in time adds a fourth value.
    return hits[-1]["sort"][: len(BEST_FIRST)] if hits else None


def _hits(found: Any, limit: int, first: int, backwards: bool = False) -> Hits:
    """Returns a page that was requested with one hit more than `limit`. `first` is the number of hits before it."""
    documents = [from_source(hit["_source"]) for hit in found["hits"]["hits"]]
    page = documents[:limit][:: -1 if backwards else 1]
    return Hits(
        found["hits"]["total"]["value"],
        [Hit(document, (document.id, number)) for number, document in enumerate(page, first)],
        len(documents) > limit,
    )
