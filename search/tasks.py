"""Celery's doors into the outbox. Each message is a hint: lost, late or doubled it does no harm."""

from __future__ import annotations

import logging

from celery import shared_task
from kombu.exceptions import OperationalError

from search import outbox

logger = logging.getLogger(__name__)

#: Seconds after which an indexer makes room for other tasks.
TURN = 5.0


@shared_task(name="search.index_outbox")
def index_outbox() -> None:
    if outbox.index(TURN):
        hint()


@shared_task(name="search.sweep_outbox")
def sweep_outbox() -> None:
    """Indexes what a lost hint or an index that was away left behind."""
    index_outbox()


def hint() -> None:
    """Says that the outbox holds something. A hint that cannot be sent is left to the sweep."""
    try:
        index_outbox.delay()
    except OperationalError as error:
        logger.warning("the outbox is left to the sweep: %s", error)
