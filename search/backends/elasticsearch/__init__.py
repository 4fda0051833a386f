"""Search on an Elasticsearch cluster. Documented in docs/search.md.

Nothing outside this package imports the cluster's driver, which the embedded profile does not install.
"""

from search.backends.elasticsearch.backend import ElasticsearchBackend

__all__ = ["ElasticsearchBackend"]
