"""The drain: events leave the log and become rows, in bulk and in order. Documented in docs/write-log.md."""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence

from django.conf import settings
from django.db import DatabaseError, OperationalError, connection, transaction
from django.utils import timezone
from django.utils.module_loading import import_string

from chatsystem.writelog import bulk, log
from chatsystem.writelog.arrival import to_micros
from chatsystem.writelog.errors import CONNECTION_LOST, is_of_the_row, is_passing
from chatsystem.writelog.events import Change, Event, depth, fold
from chatsystem.writelog.models import DeadEvent
from chatsystem.writelog.partitions import locked

logger = logging.getLogger(__name__)

#: Events of one transaction: enough to be bulk, few enough that a lock is not held for long.
BATCH = 2_000
NOTHING = log.Left(0, hinted=False)
#: Seconds between the tries of a batch that the database could not take just now. Then it is left to the sweep.
RETRY_DELAYS = (0.05, 0.25)


def drain(partition: int, seconds: float = float("inf"), *, skip: bool = False) -> int:
    """Stores the partition's events until none is left that nobody else sees to, or `seconds` are over.

    Returns how many. With `skip` it leaves a partition alone that somebody else drains, who will see our events too.
    """
    deadline = time.monotonic() + seconds
    waits = log.begin_drain(partition) > 0
    drained = 0
    while waits:
        began = time.perf_counter()
        count, left = _drain_batch_in_tries(partition, skip)
        _tell_if_slow(partition, count, time.perf_counter() - began)
        drained += count
        # What has come since may have hinted: it is left to that drain, which stores more of it at once. A drain that
        # was asked for and found us at it does not come again.
        waits = left.events > 0 and (count == BATCH or not left.hinted) and time.monotonic() <= deadline
    return drained


def drain_present(waiting: Mapping[int, int], progress: Callable[[int], object] = int) -> int:
    """Stores what the partitions held when `waiting` was read, calling `progress` with each batch; returns how many.

    No more than was there: under a stream of writes it would never end.
    """
    stored = 0
    for partition, length in waiting.items():
        while length > 0 and (batch := drain(partition, seconds=0)):
            stored += batch
            length -= batch
            progress(batch)
    return stored


def _tell_if_slow(partition: int, events: int, seconds: float) -> None:
    if seconds > settings.SLOW_DRAIN_SECONDS:
        logger.warning(
            "slow drain: partition %d, %d events in %.3f s",
            partition,
            events,
            seconds,
            extra={"partition": partition, "events": events, "seconds": round(seconds, 6)},
        )


def _drain_batch_in_tries(partition: int, skip: bool) -> tuple[int, log.Left]:
    """Each try reads anew: a commit whose answer was lost may have stored it all, which `drained_through` tells."""
    for delay in RETRY_DELAYS:
        try:
            return _drain_batch(partition, skip)
        except OperationalError as error:
            if not is_passing(error):
                raise
            logger.warning("partition %d is tried again: %s", partition, error)
            connection.close_if_unusable_or_obsolete()
            time.sleep(delay)
    return _drain_batch(partition, skip)


def _drain_batch(partition: int, skip: bool) -> tuple[int, log.Left]:
    """Returns the number of events, and what is left for us: nothing when somebody else is at it."""
    with locked(partition, skip=skip) as row:
        if row is None:
            return 0, NOTHING
        began = time.monotonic()
        # Read under the lock: who read before it could hold what the lock's last holder has stored meanwhile.
        events = log.read(partition, BATCH)
        if not events:
            return 0, NOTHING
        # At or below the mark an event was stored by a drain that died before it could remove it, or came back with an
        # older Redis.
        fresh = [event for event in events if event.arrival > row.drained_through]
        dead = store(fresh)
        now = bulk.moments()(to_micros(timezone.now()))
        refused = [
            (
                f"{partition}, {e.arrival}, {now}, %s, %s, %s, %s",
                (e.verb, e.path, e.text, f"{type(error).__name__}: {error}"),
            )
            for e, error in dead
        ]
        bulk.insert(DeadEvent, ("partition_id", "arrival", "died_at", "verb", "path", "text", "error"), refused)
        dead_arrivals = {event.arrival for event, _ in dead}
        if len(fresh) < len(events):
            # What that drain set aside stays pending too: reads have it from nowhere else.
            back_again = DeadEvent.objects.filter(partition=row, arrival__range=(events[0].arrival, events[-1].arrival))
            dead_arrivals |= set(back_again.values_list("arrival", flat=True))
        through = max(row.drained_through, events[-1].arrival)
        row.drained_through = through
        row.save(update_fields=["drained_through"])
    # Only now: the other way round a crash between the two would lose the events.
    return len(events), log.remove(partition, through, events, dead_arrivals, time.monotonic() - began)


def store(events: Sequence[Event]) -> list[tuple[Event, Exception]]:
    """Writes the events' outcome in the running transaction; returns those that cannot be stored, with the reason.

    A batch that the database refuses is halved until the bad event stands alone: it never blocks its neighbours.
    Raises whatever is no fault of an event (errors.py); then the whole transaction is to be tried again.
    """
    if not events:
        return []
    try:
        with transaction.atomic():
            _write(events)
        return []
    except (DatabaseError, ValueError, LookupError) as error:
        if connection.needs_rollback:
            # The connection broke as the savepoint was rolled back, and Django goes on with the error before that one.
            raise OperationalError(CONNECTION_LOST, "the savepoint could not be rolled back") from error
        if not is_of_the_row(error):
            raise
        if len(events) == 1:
            logger.error("dead event: %s of depth %d: %s", events[0].verb, depth(events[0].path), type(error).__name__)
            return [(events[0], error)]
        half = len(events) // 2
        return store(events[:half]) + store(events[half:])


def _write(events: Sequence[Event]) -> None:
    """Parents before children, so that a child finds its parent stored."""
    levels: dict[int, list[Change]] = defaultdict(list)
    for change in fold(events):
        levels[depth(change.path)].append(change)
    persisters = [import_string(name) for name in settings.WRITE_LOG_PERSISTERS]
    for level, changes in sorted(levels.items()):
        persisters[level](changes)
