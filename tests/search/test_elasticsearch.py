"""The Elasticsearch backend: the contract on a real node, and what only a cluster can do."""

from __future__ import annotations

import pytest

from search.backends.elasticsearch import ElasticsearchBackend
from search.backends.elasticsearch.client import client
from tests.search.backend_contract import BackendContract


class Refreshed(ElasticsearchBackend):
    """Finds what was indexed at once, not within a second."""

    def search(self, *args: object, **kwargs: object) -> object:
        client().indices.refresh(index=self._alias)
        return super().search(*args, **kwargs)


class TestElasticsearch(BackendContract):
    @pytest.fixture
    def backend(self, elasticsearch: str) -> ElasticsearchBackend:
        backend = Refreshed()
        with backend.rebuild():
            pass
        return backend
