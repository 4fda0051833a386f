"""The backend on Elasticsearch. Documented in docs/search.md."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from django.conf import settings
from elasticsearch import NotFoundError

from search.backends.base import Hit, Hits, IndexState, Place, Scope, SearchBackend, SearchUnavailable
from search.backends.elasticsearch import bulk, indexes
from search.backends.elasticsearch.client import client, patient_client, reaching
from search.backends.elasticsearch.document import from_source
from search.backends.elasticsearch.view import BEST_FIRST, WORST_FIRST, View, point_in_time
from search.documents import Document
from search.text import Query

#: Times that a writer looks again where the indexes are. Two rebuilds would have to end within one write for a third.
LOOKS = 3
#: Seconds after which the cluster forgets a removed document's version; its clock moves five times a second.
FORGETTING = 0.5


class ElasticsearchBackend(SearchBackend):
    rebuilds_in_place = False

    def __init__(self) -> None:
        # Slow searches hold this many of the web's threads, and leave the others to writes.
        self._searches = threading.BoundedSemaphore(settings.ELASTICSEARCH_SEARCHES)

    def index(self, documents: Sequence[Document]) -> None:
        """Writes to the index in service and to the one that is being built, if there is one.

        The aliases are read after the documents were: what is written to the one index alone was committed before the
        other one existed, and is read by whoever builds it.
        """
        with reaching():
            for _ in range(LOOKS):
                try:
                    return bulk.write(documents, self._written())
                except bulk.Moved:
                    # The index it was built for has taken its place. All is written again, or a document might be in
                    # the old one alone.
                    continue
        raise SearchUnavailable("the indexes change places all the time")

    def remove(self, versions: Mapping[int, int]) -> None:
        with reaching():
            held = self._get(versions)
            for id, found in held.items():
                if found["_version"] == versions[id]:
                    self._remove(id, found)
            # Until then the cluster would take an older version of it for a late one.
            time.sleep(FORGETTING)
            patient_client().indices.refresh(index=self._alias)

    def search(
        self, query: Query, scope: Scope, limit: int, *, after: Place | None = None, before: Place | None = None
    ) -> Hits:
        """A place is the hit's id and the number of hits before it: not its score, as in the FTS5 backend."""
        if not query:
            return Hits(0, [], False)
        if not self._searches.acquire(blocking=False):
            raise SearchUnavailable("all searches that this process may have under way are")
        try:
            with reaching():
                return self._page(query, scope, limit, after, before)
        finally:
            self._searches.release()

    def count(self, through: int) -> int:
        with reaching():
            patient_client().indices.refresh(index=self._alias)
            found = patient_client().count(index=self._alias, query={"range": {"id": {"lte": through}}})
            return int(found["count"])

    def last_id(self) -> int:
        with reaching():
            patient_client().indices.refresh(index=self._alias)
            found = patient_client().search(index=self._alias, size=0, aggs={"last": {"max": {"field": "id"}}})
            return int(found["aggregations"]["last"]["value"] or 0)

    def documents(self, low: int, high: int) -> dict[int, Document]:
        """As they are at this moment: getting by id does not wait for a refresh."""
        with reaching():
            found = self._get(range(low + 1, high + 1))
        return {id: from_source(held["_source"]) for id, held in found.items()}

    def state(self) -> IndexState:
        """Counts what a search finds by now."""
        with reaching():
            found = indexes.look(client())
            documents = client().count(index=self._alias)["count"] if found.live else 0
            return IndexState(found.live, int(documents), found.live is not None, found.building)

    def ping(self) -> None:
        with reaching():
            if indexes.look(client()).names:
                client().search(index=self._alias, size=0, track_total_hits=False)

    def is_complete(self) -> bool:
        with reaching():
            return indexes.look().live is not None

    @contextmanager
    def rebuild(self) -> Iterator[SearchBackend]:
        """A new index beside the one in service, or the one that an earlier rebuild did not finish.

        Left with an exception it stays as it is, and the indexer goes on to write to it.
        """
        with reaching():
            indexes.begin()
        yield _Building()
        with reaching():
            indexes.finish()

    def drop_old(self) -> list[str]:
        with reaching():
            return indexes.drop_old()

    @property
    def _alias(self) -> str:
        """What is read."""
        return indexes.live()

    def _written(self) -> list[str]:
        written = indexes.look().written
        if not written:
            raise SearchUnavailable("there is no index; run manage.py reindex")
        return written

    def _page(self, query: Query, scope: Scope, limit: int, after: Place | None, before: Place | None) -> Hits:
        try:
            if after is not None:
                with point_in_time(query, scope) as view:
                    return _page_after(view, limit, after)
            if before is not None:
                with point_in_time(query, scope) as view:
                    return _page_before(view, limit, before)
            return _hits(View(query, scope, index=self._alias).page(BEST_FIRST, limit + 1), limit, 0)
        except NotFoundError:
            # Before the first message there is no index at all. Where there are others, this one is missing.
            if indexes.look().names:
                raise
            return Hits(0, [], False)

    def _get(self, ids: Sequence[int] | Mapping[int, object] | range) -> dict[int, Any]:
        if not ids:
            return {}
        answer = patient_client().mget(index=self._alias, ids=[str(id) for id in ids])
        if wrong := next((item for item in answer["docs"] if "error" in item), None):
            raise SearchUnavailable(wrong["error"]["type"])
        return {int(item["_id"]): item for item in answer["docs"] if item["found"]}

    def _remove(self, id: int, held: dict[str, Any]) -> None:
        # Only if nobody has written it meanwhile (409).
        patient_client().options(ignore_status=[404, 409]).delete(
            index=self._alias, id=str(id), if_seq_no=held["_seq_no"], if_primary_term=held["_primary_term"]
        )


class _Building(ElasticsearchBackend):
    """The index that is being built, alone."""

    @property
    def _alias(self) -> str:
        return indexes.building()

    def _written(self) -> list[str]:
        return [self._alias]


def _page_after(view: View, limit: int, place: Place) -> Hits:
    first = place[1] + 1
    if anchor := view.anchor(place):
        return _hits(view.page(BEST_FIRST, limit + 1, anchor), limit, first)
    count = view.page(BEST_FIRST, 0)["hits"]["total"]["value"]
    return Hits(count, [], False)


def _page_before(view: View, limit: int, place: Place) -> Hits:
    found = view.page(WORST_FIRST, limit + 1, view.anchor(place))
    size = min(len(found["hits"]["hits"]), limit)
    return _hits(found, limit, max(place[1] - size, 0), backwards=True)


def _hits(found: Any, limit: int, first: int, backwards: bool = False) -> Hits:
    """`first` is the number of hits before the page. One more hit than the page has was asked for."""
    documents = [from_source(hit["_source"]) for hit in found["hits"]["hits"]]
    page = documents[:limit][:: -1 if backwards else 1]
    return Hits(
        found["hits"]["total"]["value"],
        [Hit(document, (document.id, first + position)) for position, document in enumerate(page)],
        len(documents) > limit,
    )
