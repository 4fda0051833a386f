"""The log as a drain uses it: what waits in it, read and remove. Documented in docs/write-log.md.

An event leaves the log only after the database has committed it. So a reader that asks first the log and then the
database finds every acknowledged write.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from django.conf import settings

from chatsystem.writelog.events import Event
from chatsystem.writelog.keys import Keys
from chatsystem.writelog.redis_client import (
    ask_replicas,
    available,
    check_replicas,
    client,
    groups,
    now,
    of_all,
    of_each,
)
from chatsystem.writelog.redis_guards import passed_by
from chatsystem.writelog.scripts import run

#: Events that one script call removes. It takes Redis about 3 ms.
REMOVED_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class Batch:
    """The oldest events of a partition's log."""

    events: list[Event]
    #: The Redis that the fence names; '' without a fence.
    passed_by: str
    #: When the batch was read, by the clock of Redis in microseconds.
    at: int


@dataclass(frozen=True, slots=True)
class Left:
    """What a partition's log holds after a removal."""

    events: int
    #: Whether a drain was requested that has not started.
    hinted: bool


def begin_drain(partition: int) -> int:
    """Clears the hint and returns the number of waiting events.

    The next append hints again: its event may come too late for the drain that starts now.
    """
    keys = Keys(partition)
    with available(), client(partition).pipeline(transaction=False) as pipeline:
        _, events = pipeline.delete(keys.hinted).xlen(keys.log).execute()
    return events


def read(partition: int, count: int) -> Batch:
    """Returns the oldest `count` events of the partition.

    Raises `Unreplicated` if replicas may lack some of them. Otherwise an old primary would store events that it never
    acknowledged, under numbers that the new primary gives to others.
    """
    keys = Keys(partition)
    with available(), client(partition).pipeline(transaction=False) as pipeline:
        pipeline.xrange(keys.log, count=count).get(keys.fence).time()
        if settings.REDIS_REPLICAS:
            ask_replicas(pipeline, partition)
        entries, fence, (seconds, micros), *answers = pipeline.execute()
    check_replicas(answers)
    events = [Event(_arrival(id), verb, path, text) for id, (_, verb, _, path, _, text) in entries]
    return Batch(events, passed_by(fence), seconds * 1_000_000 + micros)


def _arrival(id: str) -> int:
    """The arrival timestamp in an entry's id."""
    return int(id.removesuffix("-0"))


def remove(
    partition: int,
    through: int,
    events: Sequence[Event],
    dead: Collection[int] = (),
    counted: Sequence[int | str] = (),
    lease: tuple[str, int] = ("", 0),
) -> Left:
    """Removes `events`, which the database has committed, from the log (up to `through`) and from the pending view.

    Events whose arrival is in `dead` stay in the pending view: reads find their text nowhere else. `counted` is the
    drain's entry in the metrics (`stats.of_drain`). `lease` holds the owner that the commit confirmed and the end of
    its lease, as in `redis_guards.renew_leases`.
    """
    # In parts, because Redis serves nobody else during each. The metrics count the drain with the first part: if this
    # process dies in between, the next drain counts the rest once more, but no event goes uncounted.
    for start in range(0, len(events), REMOVED_AT_ONCE):
        part = events[start : start + REMOVED_AT_ONCE]
        is_last = start + len(part) == len(events)
        until = through if is_last else part[-1].arrival
        left = _remove(partition, until, part, dead, () if start else counted, lease)
    return left


def _remove(
    partition: int,
    through: int,
    events: Sequence[Event],
    dead: Collection[int],
    counted: Sequence[int | str],
    lease: tuple[str, int],
) -> Left:
    keys = Keys(partition)
    owner, until = lease
    arrivals, _, paths, texts = zip(*events, strict=True)
    removed = json.dumps([paths, arrivals, [len(text.encode()) for text in texts], list(dead)])
    left, hinted = run(
        partition,
        "remove",
        [keys.log, keys.pending, keys.stored, keys.usage, keys.hinted, keys.work, keys.lease],
        [through, removed, owner, until // 1000, *counted],
    )
    return Left(left, bool(hinted))


def lengths() -> dict[int, int]:
    """Returns the number of events in each partition's log, without the empty ones."""
    return {partition: length for partition, length in of_all("xlen", "log").items() if length}


def waiting(partitions: Sequence[int]) -> list[int]:
    """Returns those of one Redis's partitions whose log holds events."""
    return [partition for partition, length in of_each(partitions, "xlen", "log").items() if length]


def is_left(partition: int) -> bool:
    """Returns whether events wait without a pending hint."""
    keys = Keys(partition)
    with available(), client(partition).pipeline(transaction=False) as pipeline:
        events, hinted = pipeline.xlen(keys.log).exists(keys.hinted).execute()
    return events > 0 and not hinted


def horizon() -> int:
    """Returns an arrival before which all events of all partitions are stored. Older rows are complete and in order."""
    # Each Redis has its own clock, and the one that is most behind gives the earliest next arrival.
    latest = [now(partitions[0]) for partitions in groups()]
    firsts = [entries[0] for entries in of_all("xrange", "log", "-", "+", 1).values() if entries]
    return min([*latest, *(_arrival(id) for id, _ in firsts)])
