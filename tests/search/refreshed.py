"""The Elasticsearch backend with a refresh before each search, so that tests need not wait for one."""

from __future__ import annotations

from search.backends.base import Hits
from search.backends.elasticsearch import ElasticsearchBackend
from search.backends.elasticsearch.client import client, translated_errors


class Refreshed(ElasticsearchBackend):
    def search(self, *args: object, **kwargs: object) -> Hits:
        with translated_errors():
            client().options(ignore_status=404).indices.refresh(index=self._alias)
        return super().search(*args, **kwargs)
