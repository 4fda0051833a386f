"""The backend on Elasticsearch. Documented in docs/search.md."""

from __future__ import annotations

import threading
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from django.conf import settings
from elasticsearch import NotFoundError

from search.backends.base import Hits, IndexState, Position, Scope, SearchBackend, SearchUnavailable
from search.backends.elasticsearch import bulk, indexes
from search.backends.elasticsearch.client import client, indexing_client, translated_errors
from search.backends.elasticsearch.document import from_source
from search.backends.elasticsearch.query import first_page, page_after, page_before
from search.documents import Document
from search.tokenizer import Query

#: The number of times that a writer reads the aliases. For a third, two rebuilds would have to end within one write.
WRITE_ATTEMPTS = 3
#: Seconds after which the cluster has forgotten the version of a removed document. Its clock ticks five times a second.
FORGET_SECONDS = 0.5


class ElasticsearchBackend(SearchBackend):
    rebuilds_in_place = False

    def __init__(self) -> None:
        # A bulkhead: slow searches block at most this many of the web's threads, and leave the others to writes.
        self._searches = threading.BoundedSemaphore(settings.ELASTICSEARCH_SEARCHES)

    def index(self, documents: Sequence[Document]) -> None:
        """Writes to the index in service and to the index being built, if there is one.

        The aliases are read after the documents. If only one index existed then, the documents had been committed
        before the other one was created, so the rebuild that fills it reads them from the database.
        """
        with translated_errors():
            for _ in range(WRITE_ATTEMPTS):
                try:
                    return bulk.write(documents, self._write_aliases())
                except bulk.AliasMoved:
                    # The index being built is now in service. Write everything again, or a document might be only in
                    # the index that it replaced.
                    continue
                except SearchUnavailable:
                    if not indexes.discard_lost():
                        raise
        raise SearchUnavailable("the aliases keep moving")

    def remove(self, versions: Mapping[int, int]) -> None:
        with translated_errors():
            held = self._get(versions)
            for id, found in held.items():
                if found["_version"] == versions[id]:
                    self._remove(id, found)
            # Before this, the cluster would reject an older version of the document.
            time.sleep(FORGET_SECONDS)
            indexing_client().indices.refresh(index=self._alias)

    def search(
        self, query: Query, scope: Scope, limit: int, *, after: Position | None = None, before: Position | None = None
    ) -> Hits:
        """A position is the hit's id and the number of hits before it, as in the FTS5 backend. It has no score."""
        if not query:
            return Hits(0, [], False)
        if not self._searches.acquire(blocking=False):
            raise SearchUnavailable("all searches that this process may run at once are in use")
        try:
            with translated_errors():
                return self._page(query, scope, limit, after, before)
        finally:
            self._searches.release()

    def count(self, through: int) -> int:
        with translated_errors():
            indexing_client().indices.refresh(index=self._alias)
            found = indexing_client().count(index=self._alias, query={"range": {"id": {"lte": through}}})
            return int(found["count"])

    def last_id(self) -> int:
        with translated_errors():
            indexing_client().indices.refresh(index=self._alias)
            found = indexing_client().search(index=self._alias, size=0, aggs={"last": {"max": {"field": "id"}}})
            return int(found["aggregations"]["last"]["value"] or 0)

    def documents(self, low: int, high: int) -> dict[int, Document]:
        """Returns the documents as of now: reading by id does not wait for a refresh."""
        with translated_errors():
            found = self._get(range(low + 1, high + 1))
        return {id: from_source(held["_source"]) for id, held in found.items()}

    def state(self) -> IndexState:
        """Returns the state with the number of documents that a search can find now."""
        with translated_errors():
            found = indexes.read_indexes(client())
            documents = client().count(index=self._alias)["count"] if found.live else 0
            return IndexState(found.live, int(documents), found.live is not None, found.building)

    def ping(self) -> None:
        with translated_errors():
            if indexes.read_indexes(client()).names:
                client().search(index=self._alias, size=0, track_total_hits=False)

    def is_complete(self) -> bool:
        with translated_errors():
            return indexes.read_indexes().live is not None

    @contextmanager
    def rebuild(self) -> Iterator[SearchBackend]:
        """Yields a new index beside the one in service, or the one that an earlier rebuild did not finish.

        After an exception it stays as it is, and the indexer continues to write to it.
        """
        with translated_errors():
            indexes.begin()
        yield _Building()
        with translated_errors():
            indexes.finish()

    def unapplied_settings(self) -> list[str]:
        with translated_errors():
            return indexes.unapplied_settings()

    def drop_old(self) -> list[str]:
        with translated_errors():
            return indexes.drop_old()

    @property
    def _alias(self) -> str:
        """The alias that is read."""
        return indexes.live_alias()

    def _write_aliases(self) -> list[str]:
        aliases = indexes.read_indexes().write_aliases
        if not aliases:
            raise SearchUnavailable("there is no index; run manage.py reindex")
        return aliases

    def _page(self, query: Query, scope: Scope, limit: int, after: Position | None, before: Position | None) -> Hits:
        try:
            if after is not None:
                return page_after(query, scope, self._alias, limit, after)
            if before is not None:
                return page_before(query, scope, self._alias, limit, before)
            return first_page(query, scope, self._alias, limit)
        except NotFoundError:
            # No index exists until a worker has created the first one. If others exist, this one is missing.
            if indexes.read_indexes().names:
                raise
            return Hits(0, [], False)

    def _get(self, ids: Collection[int]) -> dict[int, Any]:
        if not ids:
            return {}
        response = indexing_client().mget(index=self._alias, ids=[str(id) for id in ids])
        if failed := next((item for item in response["docs"] if "error" in item), None):
            raise SearchUnavailable(failed["error"]["type"])
        return {int(item["_id"]): item for item in response["docs"] if item["found"]}

    def _remove(self, id: int, held: dict[str, Any]) -> None:
        # Only if nobody has written the document meanwhile (409).
        indexing_client().options(ignore_status=[404, 409]).delete(
            index=self._alias, id=str(id), if_seq_no=held["_seq_no"], if_primary_term=held["_primary_term"]
        )


class _Building(ElasticsearchBackend):
    """The index being built, alone."""

    @property
    def _alias(self) -> str:
        return indexes.building_alias()

    def _write_aliases(self) -> list[str]:
        return [self._alias]
