"""How the cluster is reached, and what its failures are here. Documented in docs/search.md."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from django.conf import settings
from django.dispatch import receiver
from elasticsearch import ApiError, ConnectionTimeout, Elasticsearch, NotFoundError, TransportError

from chatsystem.silence import gone_silent
from search.backends.base import SearchUnavailable

#: Seconds that indexing waits for an answer: a cluster that is busy merging is slow and not away. Less than the lease
#: of search.outbox: a cluster that hangs holds up one worker, and not another one with each lease.
PATIENCE = 5.0
#: Seconds that it waits for what the cluster knows by heart: its indexes.
LOOK = 2.0


def client() -> Elasticsearch:
    """For searches: a client that waits ELASTICSEARCH_TIMEOUT, for a connection as for an answer."""
    # Connections must not cross a fork.
    return _client(settings.ELASTICSEARCH_URL, settings.ELASTICSEARCH_TIMEOUT, os.getpid())


def patient_client() -> Elasticsearch:
    """For indexing: it waits PATIENCE."""
    return _client(settings.ELASTICSEARCH_URL, PATIENCE, os.getpid())


def first_client() -> Elasticsearch:
    """For the first question of a turn, a small one, asked twice: a connection that went silent while it was idle is
    given up within LOOK, or it would cost each worker process its PATIENCE, one after the other.
    """
    return patient_client().options(request_timeout=LOOK, retry_on_timeout=True)


@cache
def _client(url: str, timeout: float, process: int) -> Elasticsearch:
    # One more try, for a connection that the cluster closed while it was idle. A time-out is not tried again: it would
    # be waited for twice.
    return Elasticsearch(url.split(","), request_timeout=timeout, max_retries=1, retry_on_timeout=False)


@receiver(gone_silent)
def _drop_idle(**kwargs: object) -> None:
    # Those in use are kept by who uses them.
    _client.cache_clear()


@contextmanager
def reaching() -> Iterator[None]:
    """Whatever the cluster answers but what it was asked for, or does not answer, is SearchUnavailable."""
    try:
        yield
    except ConnectionTimeout as error:
        gone_silent.send(None)
        raise SearchUnavailable(f"{type(error).__name__}: {error.message}") from error
    except TransportError as error:
        raise SearchUnavailable(f"{type(error).__name__}: {error.message}") from error
    except NotFoundError as error:
        raise SearchUnavailable("there is no index; run manage.py reindex") from error
    except ApiError as error:
        # Its text may quote a document.
        raise SearchUnavailable(f"{type(error).__name__}: {error.status_code} {error.message}") from error
