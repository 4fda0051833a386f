"""Celery's doors into the outbox. Each message is a hint: lost, late or doubled it does no harm."""

from __future__ import annotations

import logging

from celery import shared_task
from celery.signals import worker_init, worker_ready
from django.core.cache import cache
from kombu.exceptions import OperationalError

from chatsystem.cache import asked
from search import outbox
from search.backends import get_backend

logger = logging.getLogger(__name__)

#: Seconds after which an indexer makes room for other tasks.
TURN = 5.0
#: Seconds from a hint until its indexer begins. What is stored meanwhile goes along, at hardly more cost.
GATHERING = 0.2

HINTED = "search:hinted"
#: Seconds for which a hint is believed to be under way.
HINTED_SECONDS = 2


@worker_init.connect
def load_backend(**kwargs: object) -> None:
    """Its driver takes a third of a second to import: once here, and not in each process that the worker forks."""
    get_backend()


@worker_ready.connect
def drop_lease(**kwargs: object) -> None:
    """It may be that of a worker that was killed. Another one that is at work takes a new one with its next turn."""
    outbox.give_lease_back()


@shared_task(name="search.index_outbox")
def index_outbox() -> None:
    # What is stored from here on may come too late, and hints anew.
    asked(lambda: cache.delete(HINTED), True)
    if outbox.index(TURN):
        hint()


@shared_task(name="search.sweep_outbox")
def sweep_outbox() -> None:
    """Indexes what a lost hint or an index that was away left behind."""
    index_outbox()


def hint() -> None:
    """Says that the outbox holds something, once until an indexer begins. A hint that is lost is left to the sweep."""
    if not asked(lambda: cache.add(HINTED, 1, HINTED_SECONDS), True):
        return
    try:
        index_outbox.apply_async(countdown=GATHERING)
    except OperationalError as error:
        logger.warning("the outbox is left to the sweep: %s", error)
