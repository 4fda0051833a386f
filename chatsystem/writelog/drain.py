"""The drain: moves events from the log into rows, in bulk and in order. Documented in docs/write-log.md."""

from __future__ import annotations

import logging
import time
from collections import defaultdict, deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace

from django.conf import settings
from django.db import DatabaseError, OperationalError, connection, transaction
from django.utils import timezone
from django.utils.module_loading import import_string

from chatsystem.writelog import bulk, feed, ownership, stats, stream
from chatsystem.writelog.database_errors import CONNECTION_LOST, is_of_the_row, is_passing
from chatsystem.writelog.events import Change, Event, depth, fold, to_micros
from chatsystem.writelog.exceptions import DatabaseBehind, LogUnavailable, Superseded
from chatsystem.writelog.models import DeadEvent, Partition
from chatsystem.writelog.partitions import locked_together
from chatsystem.writelog.redis_client import groups

logger = logging.getLogger(__name__)

#: Events and bytes of text of one transaction: enough for bulk statements, few enough to release the locks soon.
BATCH = 5_000
BATCH_BYTES = 8_000_000
#: Seconds between the tries of a batch that the database refused for a moment.
RETRY_DELAYS = (0.05, 0.25)

#: Events that cannot be stored, with the errors.
Refused = list[tuple[Event, Exception]]


def drain(partitions: Sequence[int], seconds: float = float("inf"), *, skip: bool = False) -> int:
    """Stores the events of one Redis's partitions until the rest is left to a drain that is hinted, or for `seconds`.

    Returns the number of stored events. With `skip`, leaves out partitions that another process drains: that process
    stores these events too. Raises `DatabaseBehind` or `Superseded` if nothing could be stored for that reason. Raises
    an error of the database when the other partitions are stored, or at once if the connection is lost.
    """
    deadline = time.monotonic() + seconds
    stored = 0
    refusal: LogUnavailable | None = None
    failure: DatabaseError | None = None
    waiting = stream.begin_drain(partitions)
    while waiting:
        taken: dict[int, int] = {}
        queue = deque(_groups(waiting))
        late = False
        while queue and not late:
            counts = queue.popleft()
            try:
                taken |= _retry_group(counts, skip)
            except (DatabaseBehind, Superseded) as error:
                refusal = error
            except DatabaseError as error:
                if connection.connection is None or not connection.is_usable():
                    raise
                # An error that is not known to be of a row must not stop the neighbours of that row's partition.
                failure = error
                if len(counts) > 1:
                    queue.extend({partition: count} for partition, count in counts.items())
            late = time.monotonic() > deadline
        stored += sum(taken.values())
        if late or not taken:
            break
        # Events that arrive meanwhile hint another drain, which stores more of them at once. If that drain has run and
        # found the partition locked, it does not return. So this one continues.
        cut = {partition for partition, count in taken.items() if count < waiting[partition].events}
        waiting = {p: log for p, log in stream.waiting(partitions).items() if not log.hinted or p in cut}
    if failure:
        raise failure
    if refusal and not stored:
        raise refusal
    return stored


def drain_present(waiting: Mapping[int, int], progress: Callable[[int], object] = int) -> int:
    """Stores what the partitions held when `waiting` was read, and returns the number of events.

    Calls `progress` with the size of each batch. Ignores later events. Otherwise, under constant writes, it would never
    end.
    Raises `Superseded` if another Redis is the owner.
    """
    for partitions in groups():
        ownership.confirm(partitions)
    stored = 0
    for partition, length in waiting.items():
        while length > 0 and (batch := drain([partition], seconds=0)):
            stored += batch
            length -= batch
            progress(batch)
    return stored


def _groups(waiting: Mapping[int, stream.Waiting]) -> Iterator[dict[int, int]]:
    """Groups partitions whose events fit one transaction, short logs first. Yields how many events to read of each.

    So a long log delays no short one. What does not fit follows in later transactions; other drains may take it first.
    """
    counts: dict[int, int] = {}
    events = size = 0
    for partition, log in sorted(waiting.items(), key=lambda item: item[1].events):
        if counts and (events + log.events > BATCH or size + log.bytes > BATCH_BYTES):
            yield counts
            counts, events, size = {}, 0, 0
        # A long log is read in parts. Its texts are taken to be of one length here, and are measured in `_fitting`.
        fitting = log.events if log.bytes <= BATCH_BYTES else log.events * BATCH_BYTES // log.bytes
        counts[partition] = max(min(fitting, BATCH), 1)
        events += log.events
        size += log.bytes
    yield counts


def _log_if_slow(partitions: Collection[int], events: int, seconds: float) -> None:
    if seconds > settings.SLOW_DRAIN_SECONDS:
        logger.warning(
            "slow drain: %d partitions, %d events in %.3f s",
            len(partitions),
            events,
            seconds,
            extra={"partitions": len(partitions), "events": events, "seconds": round(seconds, 6)},
        )


def _retry_group(counts: Mapping[int, int], skip: bool) -> dict[int, int]:
    """Stores a group, in up to three tries. Returns how many events of each partition were taken.

    Each try reads the logs again: a commit whose answer was lost may have stored everything, as `drained_through`
    shows.
    """
    for delay in RETRY_DELAYS:
        try:
            return _drain_group(counts, skip)
        except OperationalError as error:
            if not is_passing(error):
                raise
            logger.warning("retrying %d partitions: %s", len(counts), error)
            connection.close_if_unusable_or_obsolete()
            time.sleep(delay)
    return _drain_group(counts, skip)


def _drain_group(counts: Mapping[int, int], skip: bool) -> dict[int, int]:
    """Stores the oldest events of partitions in one transaction. Leaves out those that another drain holds.

    Returns how many events were taken from each log. Leaves out logs from which none were taken.
    """
    started = time.perf_counter()
    with locked_together(list(counts), skip=skip) as rows:
        began = time.monotonic()
        # Read under the locks: read earlier, a batch could hold events that the last holder has stored meanwhile.
        batches = _fitting(stream.read({row.pk: counts[row.pk] for row in rows})) if rows else {}
        # Leaves out the log of an old primary, or of another host's Redis: its events may have numbers that the owner
        # has given to others.
        mine = [row for row in rows if row.pk in batches and batches[row.pk].passed_by == row.owner]
        if batches and not mine:
            raise Superseded("the logs of partitions are not the owner's")
        removals = _store(mine, batches) if mine else []
    # Only after the commit: in the other order a crash between the two would lose the events.
    taken = {removal.partition: len(removal.events) for removal in removals}
    if taken:
        stream.remove(removals, stats.of_drain(time.monotonic() - began, sum(taken.values())))
    _log_if_slow(taken, sum(taken.values()), time.perf_counter() - started)
    return taken


def _fitting(batches: Mapping[int, stream.Batch]) -> dict[int, stream.Batch]:
    """Cuts batches so that their texts together have at most BATCH_BYTES. Leaves out empty ones."""
    fitting: dict[int, stream.Batch] = {}
    room = BATCH_BYTES
    for partition, batch in batches.items():
        count = 0
        for event in batch.events:
            room -= event.size
            # The first event of all is taken, however long it is.
            if room < 0 and (count or fitting):
                break
            count += 1
        if count:
            fitting[partition] = replace(batch, events=batch.events[:count])
    return fitting


def _store(rows: Sequence[Partition], batches: Mapping[int, stream.Batch]) -> list[stream.Removal]:
    """Stores batches in the running transaction, and returns what leaves the log after its commit."""
    # Events up to `drained_through` are stored already: a drain died before it removed them, or an older Redis brought
    # them back.
    fresh = {row.pk: [e for e in batches[row.pk].events if e.arrival > row.drained_through] for row in rows}
    dead = store_together(fresh)
    _keep(dead)
    feed.add(rows, fresh)
    removals = []
    for row in rows:
        batch = batches[row.pk]
        arrivals = {event.arrival for event, _ in dead.get(row.pk, ())}
        if len(fresh[row.pk]) < len(batch.events):
            # The dead letters of that drain stay pending too: reads find them nowhere else.
            between = (batch.events[0].arrival, batch.events[-1].arrival)
            earlier = DeadEvent.objects.filter(partition=row, arrival__range=between)
            arrivals |= set(earlier.values_list("arrival", flat=True))
        row.drained_through = max(row.drained_through, batch.events[-1].arrival)
        lease = ownership.lease_of(row.owner, batch.at) if fresh[row.pk] else ownership.NO_LEASE
        removals.append(stream.Removal(row.pk, row.drained_through, batch.events, arrivals, lease))
    Partition.objects.bulk_update(rows, ["drained_through"])
    return removals


def _keep(dead: Mapping[int, Refused]) -> None:
    """Stores events as dead letters."""
    now = bulk.moments()(to_micros(timezone.now()))
    rows = [
        (f"{partition}, {e.arrival}, {now}, %s, %s, %s, %s", (e.verb, e.path, e.text, f"{type(why).__name__}: {why}"))
        for partition, refused in dead.items()
        for e, why in refused
    ]
    bulk.insert(DeadEvent, ("partition_id", "arrival", "died_at", "verb", "path", "text", "error"), rows)


def store_together(fresh: Mapping[int, Sequence[Event]]) -> dict[int, Refused]:
    """Stores the outcome of the events of several partitions. Returns those that cannot be stored, by partition.

    If the database refuses them, stores each partition by itself.
    """
    together = [event for events in fresh.values() for event in events]
    if len(fresh) > 1 and _refusal(together) is None:
        return {}
    return {partition: refused for partition, events in fresh.items() if (refused := store(events))}


def store(events: Sequence[Event]) -> Refused:
    """Stores the outcome of the events in the running transaction. Returns those that cannot be stored, with errors.

    Bisects a batch that the database refuses until the bad event is alone, so that it never blocks its neighbours.
    Raises errors that are no fault of an event (database_errors.py): then the whole transaction must be retried.
    """
    error = _refusal(events)
    if error is None:
        return []
    if len(events) == 1:
        logger.error("dead event: %s of depth %d: %s", events[0].verb, depth(events[0].path), type(error).__name__)
        return [(events[0], error)]
    half = len(events) // 2
    return store(events[:half]) + store(events[half:])


def _refusal(events: Sequence[Event]) -> Exception | None:
    """Stores the events, or returns the error for which the database refuses one of them."""
    if not events:
        return None
    try:
        with transaction.atomic():
            _write(events)
    except (DatabaseError, ValueError, LookupError) as error:
        if connection.needs_rollback:
            # The connection broke while the savepoint was rolled back. Django goes on with the earlier error.
            raise OperationalError(CONNECTION_LOST, "the savepoint could not be rolled back") from error
        if not is_of_the_row(error):
            raise
        return error
    return None


def _write(events: Sequence[Event]) -> None:
    """Stores parents before children, so that a child finds its parent."""
    levels: dict[int, list[Change]] = defaultdict(list)
    for change in fold(events):
        levels[depth(change.path)].append(change)
    persisters = [import_string(name) for name in settings.WRITE_LOG_PERSISTERS]
    for level, changes in sorted(levels.items()):
        persisters[level](changes)
