"""Celery tasks that index the outbox. Each message is a hint: lost, late or duplicate hints do no harm."""

from __future__ import annotations

import logging
from contextlib import suppress

from celery import shared_task
from celery.signals import worker_init, worker_ready
from django.core.cache import cache
from kombu.exceptions import OperationalError

from chatsystem.cache import with_fallback
from search import outbox
from search.backends import get_backend

logger = logging.getLogger(__name__)

#: Seconds after which an indexer yields to other tasks.
INDEX_TURN = 5.0
#: Seconds between a hint and its indexer (debounce). Messages stored meanwhile join the same request at little cost.
INDEX_DELAY = 0.2

#: Seconds until a waiting hint expires. Otherwise hints would pile up behind a long backlog, and a job or the reconcile
#: would wait behind all of them, although the indexer continues anyway. The sweep expires as soon.
EXPIRES = 10

#: Cache key that marks a hint as sent.
HINTED = "search:hinted"
#: Seconds after which a hint is considered lost.
HINTED_SECONDS = 2


@worker_init.connect
def load_backend(**kwargs: object) -> None:
    """Imports the driver, which takes a third of a second, once before the worker forks."""
    get_backend()


@worker_ready.connect
def drop_lease(**kwargs: object) -> None:
    """Releases the lease of a worker that may have been killed. A working indexer takes a new one with its next run."""
    outbox.release_lease()


@worker_ready.connect
def request_complete_index(**kwargs: object) -> None:
    """Has a new index filled, after its loss or an update, without waiting for the next message."""
    with suppress(OperationalError):
        complete_index.delay()


@shared_task(name="search.complete_index")
def complete_index() -> None:
    outbox.complete_index()


@shared_task(name="search.index_outbox")
def index_outbox() -> None:
    """Indexes the outbox. Beat runs it too, for what a lost hint or an index that was down left behind."""
    # Messages stored from here on may come too late for this run, so they hint again.
    with_fallback(lambda: cache.delete(HINTED), True)
    if outbox.index(INDEX_TURN):
        request_indexing()


def request_indexing() -> None:
    """Requests an indexer, unless a hint is under way. If the hint is lost, the sweep indexes the outbox."""
    if not with_fallback(lambda: cache.add(HINTED, 1, HINTED_SECONDS), True):
        return
    try:
        index_outbox.apply_async(countdown=INDEX_DELAY, expires=EXPIRES)
    except OperationalError as error:
        logger.warning("the outbox is left to the sweep: %s", error)
