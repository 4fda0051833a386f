"""Connects to the cluster and translates its errors. Documented in docs/search.md."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from django.conf import settings
from django.dispatch import receiver
from elasticsearch import ApiError, ConnectionTimeout, Elasticsearch, NotFoundError, TransportError

from chatsystem.signals import connection_stale
from search.backends.base import SearchUnavailable

#: Seconds that indexing waits for a response: a cluster that is busy merging is slow, not down. Less than the lease of
#: search.outbox, so that a cluster that hangs blocks one worker and not another one with each lease.
INDEXING_TIMEOUT = 5.0
#: Seconds that it waits for a response that takes the cluster no work, such as the list of indexes.
PROBE_TIMEOUT = 2.0


def client() -> Elasticsearch:
    """Returns the client for searches. Its timeout for connecting and for responses is ELASTICSEARCH_TIMEOUT."""
    # Connections must not cross a fork.
    return _client(settings.ELASTICSEARCH_URL, settings.ELASTICSEARCH_TIMEOUT, os.getpid())


def indexing_client() -> Elasticsearch:
    """Returns the client for indexing, with INDEXING_TIMEOUT."""
    return _client(settings.ELASTICSEARCH_URL, INDEXING_TIMEOUT, os.getpid())


def probe_client() -> Elasticsearch:
    """Returns a client for the first, cheap request of an indexing run. It tries twice within PROBE_TIMEOUT each.

    It discovers connections that went stale while idle. Otherwise each worker process would wait INDEXING_TIMEOUT for
    its own, one after the other.
    """
    return indexing_client().options(request_timeout=PROBE_TIMEOUT, retry_on_timeout=True)


@cache
def _client(url: str, timeout: float, process: int) -> Elasticsearch:
    # One retry, for a connection that the cluster closed while it was idle. None after a timeout, which would double
    # the wait.
    return Elasticsearch(url.split(","), request_timeout=timeout, max_retries=1, retry_on_timeout=False)


@receiver(connection_stale)
def _drop_idle(**kwargs: object) -> None:
    # Whoever uses a client meanwhile keeps a reference to it.
    _client.cache_clear()


@contextmanager
def translated_errors() -> Iterator[None]:
    """Turns every error of the cluster, and every missing response, into SearchUnavailable."""
    try:
        yield
    except ConnectionTimeout as error:
        connection_stale.send(None)
        raise SearchUnavailable(f"{type(error).__name__}: {error.message}") from error
    except TransportError as error:
        raise SearchUnavailable(f"{type(error).__name__}: {error.message}") from error
    except NotFoundError as error:
        raise SearchUnavailable("there is no index; run manage.py reindex") from error
    except ApiError as error:
        # Not str(error), which may quote a document.
        raise SearchUnavailable(f"{type(error).__name__}: {error.status_code} {error.message}") from error
