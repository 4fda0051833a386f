"""The drain: moves events from the log into rows, in bulk and in order. Documented in docs/write-log.md."""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence

from django.conf import settings
from django.db import DatabaseError, OperationalError, connection, transaction
from django.utils import timezone
from django.utils.module_loading import import_string

from chatsystem.writelog import bulk, ownership, stats, stream
from chatsystem.writelog.database_errors import CONNECTION_LOST, is_of_the_row, is_passing
from chatsystem.writelog.events import Change, Event, depth, fold, to_micros
from chatsystem.writelog.exceptions import Superseded
from chatsystem.writelog.models import DeadEvent
from chatsystem.writelog.partitions import locked
from chatsystem.writelog.redis_client import groups

logger = logging.getLogger(__name__)

#: Events of one transaction: enough for bulk statements, few enough to release the lock soon.
BATCH = 2_000
NOTHING = stream.Left(0, hinted=False)
#: Seconds between the tries of a batch that the database could not take just now. After them the sweep takes over.
RETRY_DELAYS = (0.05, 0.25)


def drain(partition: int, seconds: float = float("inf"), *, skip: bool = False) -> int:
    """Stores the partition's events until the log is empty, another drain takes over, or `seconds` are over.

    Returns the number of stored events. With `skip`, leaves a partition alone that another process drains: that drain
    stores our events too.
    """
    deadline = time.monotonic() + seconds
    waits = stream.begin_drain(partition) > 0
    drained = 0
    while waits:
        began = time.perf_counter()
        count, left = _retry_batch(partition, skip)
        _log_if_slow(partition, count, time.perf_counter() - began)
        drained += count
        # Events that arrive meanwhile trigger another drain, which stores more of them at once. If that drain ran and
        # found the partition taken, it does not come again: then we go on.
        waits = left.events > 0 and (count == BATCH or not left.hinted) and time.monotonic() <= deadline
    return drained


def drain_present(waiting: Mapping[int, int], progress: Callable[[int], object] = int) -> int:
    """Stores what the partitions held when `waiting` was read, and returns the number of events.

    Calls `progress` with the size of each batch. Ignores later events: under constant writes it would never end.
    Raises `Superseded` if another Redis is the owner.
    """
    for partitions in groups():
        ownership.confirm(partitions)
    stored = 0
    for partition, length in waiting.items():
        while length > 0 and (batch := drain(partition, seconds=0)):
            stored += batch
            length -= batch
            progress(batch)
    return stored


def _log_if_slow(partition: int, events: int, seconds: float) -> None:
    if seconds > settings.SLOW_DRAIN_SECONDS:
        logger.warning(
            "slow drain: partition %d, %d events in %.3f s",
            partition,
            events,
            seconds,
            extra={"partition": partition, "events": events, "seconds": round(seconds, 6)},
        )


def _retry_batch(partition: int, skip: bool) -> tuple[int, stream.Left]:
    """Drains a batch, in up to three tries.

    Each try reads the log again: a commit whose answer was lost may have stored everything, as `drained_through` shows.
    """
    for delay in RETRY_DELAYS:
        try:
            return _drain_batch(partition, skip)
        except OperationalError as error:
            if not is_passing(error):
                raise
            logger.warning("retrying partition %d: %s", partition, error)
            connection.close_if_unusable_or_obsolete()
            time.sleep(delay)
    return _drain_batch(partition, skip)


def _drain_batch(partition: int, skip: bool) -> tuple[int, stream.Left]:
    """Returns the number of stored events, and what is left for us: nothing if another drain holds the partition."""
    with locked(partition, skip=skip) as row:
        if row is None:
            return 0, NOTHING
        began = time.monotonic()
        # Read under the lock: read earlier, the batch could hold events that the last holder has stored meanwhile.
        batch = stream.read(partition, BATCH)
        events = batch.events
        if not events:
            return 0, NOTHING
        # An old primary, or another host's Redis. Its events may have numbers that the owner has given to others.
        if batch.passed_by != row.owner:
            raise Superseded(f"partition {partition}: its log is not the owner's")
        # Events at or below the mark are stored. A drain died before it removed them, or an older Redis brought them
        # back.
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
            # The dead letters of that drain stay pending too: reads find them nowhere else.
            earlier = DeadEvent.objects.filter(partition=row, arrival__range=(events[0].arrival, events[-1].arrival))
            dead_arrivals |= set(earlier.values_list("arrival", flat=True))
        through = max(row.drained_through, events[-1].arrival)
        row.drained_through = through
        row.save(update_fields=["drained_through"])
    # Only after the commit: in the other order a crash between the two would lose the events.
    lease = ownership.lease_of(row.owner, batch.at) if fresh else ownership.NO_LEASE
    counted = stats.of_drain(time.monotonic() - began, len(events))
    return len(events), stream.remove(partition, through, events, dead_arrivals, counted, lease)


def store(events: Sequence[Event]) -> list[tuple[Event, Exception]]:
    """Stores the outcome of the events in the running transaction. Returns those that cannot be stored, with errors.

    Bisects a batch that the database refuses until the bad event is alone, so that it never blocks its neighbours.
    Raises errors that are no fault of an event (database_errors.py): then the whole transaction must be retried.
    """
    if not events:
        return []
    try:
        with transaction.atomic():
            _write(events)
        return []
    except (DatabaseError, ValueError, LookupError) as error:
        if connection.needs_rollback:
            # The connection broke while the savepoint was rolled back. Django goes on with the earlier error.
            raise OperationalError(CONNECTION_LOST, "the savepoint could not be rolled back") from error
        if not is_of_the_row(error):
            raise
        if len(events) == 1:
            logger.error("dead event: %s of depth %d: %s", events[0].verb, depth(events[0].path), type(error).__name__)
            return [(events[0], error)]
        half = len(events) // 2
        return store(events[:half]) + store(events[half:])


def _write(events: Sequence[Event]) -> None:
    """Stores parents before children, so that a child finds its parent."""
    levels: dict[int, list[Change]] = defaultdict(list)
    for change in fold(events):
        levels[depth(change.path)].append(change)
    persisters = [import_string(name) for name in settings.WRITE_LOG_PERSISTERS]
    for level, changes in sorted(levels.items()):
        persisters[level](changes)
