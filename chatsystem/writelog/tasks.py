"""The Celery tasks of the write log. Each message is a hint: it may be lost, late or duplicated without harm."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from contextlib import suppress

from celery import shared_task
from celery.signals import worker_ready
from django.db import DatabaseError, InterfaceError

from chatsystem.writelog import feed, ownership, redis_guards, rollback_guard, stats, stream
from chatsystem.writelog.counts import reconcile_due
from chatsystem.writelog.drain import drain
from chatsystem.writelog.exceptions import DatabaseBehind, LogUnavailable, Superseded, Unreplicated
from chatsystem.writelog.redis_client import ask_each, group_of, labelled_groups, look_again

logger = logging.getLogger(__name__)

#: Seconds from a hint to its drain. The same commit stores what arrives meanwhile, at hardly more cost.
DRAIN_DELAY = 0.6
#: Seconds after which a drain yields to the other tasks.
DRAIN_TURN = 1.0


@shared_task(name="writelog.drain")
def drain_waiting(partition: int, hinted_at: float = 0.0) -> None:
    """Drains what waits in the Redis that serves the partition, for about DRAIN_TURN seconds.

    `hinted_at` is wall-clock time, possibly of another machine. A hint that waited long in the queue drains at once.
    """
    time.sleep(min(max(hinted_at + DRAIN_DELAY - time.time(), 0.0), DRAIN_DELAY))
    partitions = group_of(partition)
    try:
        # 0: nothing waited, or other drains hold the partitions and store what is left.
        if drain(partitions, DRAIN_TURN, skip=True) and _is_left(partitions):
            drain_waiting.delay(partition)
    except Superseded:
        _leave_old_primary(partitions)
    except (DatabaseBehind, Unreplicated):
        pass  # The sweep reports both, and `Superseded`, every time.


def _is_left(partitions: Sequence[int]) -> bool:
    """Returns whether events wait for which no drain was requested."""
    return any(not log.hinted for log in stream.waiting(partitions).values())


def _leave_old_primary(partitions: Sequence[int]) -> None:
    """Looks for another primary once this Redis knows that it was superseded.

    Workers keep their connections to an old primary that our hosts still reach, and its Sentinel does not. They stay
    until the flags are set: nobody else would tell the web processes that read from it.
    """
    if len(redis_guards.superseded(partitions)) == len(partitions):
        look_again()


@worker_ready.connect
def show_up(**kwargs: object) -> None:
    """Reports a worker as soon as it has started, without waiting for its first sweep."""
    with suppress(LogUnavailable):
        stats.beat_heart()
        for hazard in stats.hazards():
            logger.error("the state Redis may lose acknowledged writes: %s", hazard.text)


@shared_task(name="writelog.sweep")
def sweep() -> None:
    """Hints drains for what waits, and checks that database and state Redis are still the same."""
    # A full Redis refuses the heartbeat. It must be drained all the more.
    with suppress(LogUnavailable):
        stats.beat_heart()
    errors: list[Exception] = []
    for label, answer in ask_each(labelled_groups(), _sweep).items():
        # The other servers are swept all the same.
        if isinstance(answer, LogUnavailable):
            logger.warning("%s cannot be swept: %s", label, answer)
        elif isinstance(answer, TimeoutError):
            logger.warning("the sweep of %s takes long, and goes on in the background", label)
        elif isinstance(answer, Exception):
            errors.append(answer)
    if errors:
        raise errors[0]


def _sweep(partitions: Sequence[int]) -> None:
    """Sweeps the partitions of one Redis."""
    try:
        rollback_guard.halt_or_resume(partitions)
    except (DatabaseError, InterfaceError):
        # The leases of an owner are renewed all the same, even if no request asks for it.
        ownership.keep(partitions)
        raise
    try:
        ownership.keep(partitions)
    except (Superseded, Unreplicated) as error:
        logger.error("nothing is accepted or stored: %s (docs/runbook.md)", error)
        _leave_old_primary(partitions)
        return
    except LogUnavailable as error:
        # A full Redis refuses leases too.
        logger.warning("could not confirm the owner: %s", error)
    if stream.waiting(partitions):
        drain_waiting.delay(partitions[0])


@shared_task(name="writelog.sample")
def sample() -> None:
    stats.add_sample(stats.sample())


@shared_task(name="writelog.trim_feed")
def trim_feed() -> None:
    # The clock of Redis, since arrivals come from it.
    if removed := feed.trim(stream.horizon()):
        logger.info("%d rows left the feed", removed)


@shared_task(name="writelog.reconcile")
def reconcile() -> None:
    reconcile_due()
