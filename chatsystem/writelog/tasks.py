"""Celery's doors into the write log. Each message is a hint: lost, late or doubled it does no harm."""

from __future__ import annotations

import logging
import time
from contextlib import suppress

from celery import shared_task
from celery.signals import worker_ready

from chatsystem.writelog import behind, history, log, vitals
from chatsystem.writelog.counts import reconcile_due
from chatsystem.writelog.drain import drain
from chatsystem.writelog.state import LogUnavailable

logger = logging.getLogger(__name__)

#: Seconds from a hint until its drain begins. What arrives meanwhile is stored by the same commit, at hardly more cost.
GATHERING = 0.6
#: Seconds after which a drain makes room for the other partitions.
TURN = 1.0


@shared_task(name="writelog.drain")
def drain_partition(partition: int, hinted_at: float = 0.0) -> None:
    """`hinted_at` is a wall clock's time, maybe another machine's. A hint that was long in the queue waits no more."""
    time.sleep(min(max(hinted_at + GATHERING - time.time(), 0.0), GATHERING))
    # A halted partition is told by the sweep, over and over.
    with suppress(log.DatabaseBehind):
        # Nothing drained means that another drain holds the partition: it sees to what is left.
        if drain(partition, TURN, skip=True) and log.is_left(partition):
            drain_partition.delay(partition)


@worker_ready.connect
def show_up(**kwargs: object) -> None:
    """A worker that has just started need not wait for its first sweep to count as one."""
    with suppress(LogUnavailable):
        vitals.beat_heart()
        for hazard in vitals.hazards():
            logger.error("the state Redis can lose acknowledged writes: %s", hazard)


@shared_task(name="writelog.sweep")
def sweep() -> None:
    """Drains what a lost hint left behind, and sees whether the database is still the one that it was."""
    # A full Redis takes no sign of life, and has to be emptied all the more.
    with suppress(LogUnavailable):
        vitals.beat_heart()
    behind.halt_or_resume()
    for partition in log.lengths():
        drain_partition.delay(partition)


@shared_task(name="writelog.sample")
def sample() -> None:
    history.add(history.sample())


@shared_task(name="writelog.reconcile")
def reconcile() -> None:
    reconcile_due()
