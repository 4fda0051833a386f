"""The log as a drain uses it: what waits in it, read and remove. Documented in docs/write-log.md.

An event leaves the log only after the database has committed it. So a reader that asks first the log and then the
database finds every acknowledged write.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

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
)
from chatsystem.writelog.redis_guards import passed_by
from chatsystem.writelog.scripts import run_each

#: Events that one call removes. It takes Redis about 3 ms.
REMOVED_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class Waiting:
    """What a partition's log holds."""

    events: int
    #: Approximate UTF-8 bytes of their texts: other processes append and remove meanwhile.
    bytes: int
    #: Whether a requested drain has not started yet.
    hinted: bool


@dataclass(frozen=True, slots=True)
class Batch:
    """The oldest events of a partition's log."""

    events: list[Event]
    #: The Redis that the fence names; '' without a fence.
    passed_by: str
    #: When the batch was read, by the clock of Redis in microseconds.
    at: int


@dataclass(frozen=True, slots=True)
class Removal:
    """Events of one partition that leave its log, up to `through`, and its pending view.

    Those whose arrival is in `dead` stay in the pending view: reads find their text nowhere else. `lease` holds the
    owner that the commit confirmed and the end of its lease, as in `redis_guards.renew_leases`.
    """

    partition: int
    through: int
    events: Sequence[Event]
    dead: Collection[int] = ()
    lease: tuple[str, int] = ("", 0)


# If a function takes several partitions, one Redis must serve them all. It is asked in one round trip.


def begin_drain(partitions: Sequence[int]) -> dict[int, Waiting]:
    """Clears the hints and returns what waits, by partition, without empty logs.

    The next append hints again: its event may come too late for the drain that starts now.
    """
    return _waiting(partitions, "delete")


def waiting(partitions: Sequence[int]) -> dict[int, Waiting]:
    """Returns what waits, by partition, without empty logs."""
    return _waiting(partitions, "exists")


def _waiting(partitions: Sequence[int], of_the_hint: str) -> dict[int, Waiting]:
    with available(), client(partitions[0]).pipeline(transaction=False) as pipeline:
        for partition in partitions:
            keys = Keys(partition)
            # The hint first: a later event then hints a drain of its own.
            getattr(pipeline, of_the_hint)(keys.hinted)
            pipeline.xlen(keys.log).hvals(keys.usage)
        answers = pipeline.execute()
    found = zip(partitions, answers[::3], answers[1::3], answers[2::3], strict=True)
    return {
        # An application's usage is its events and their bytes.
        partition: Waiting(events, sum(int(usage.split()[1]) for usage in usages), bool(hinted))
        for partition, hinted, events, usages in found
        if events
    }


def read(counts: Mapping[int, int]) -> dict[int, Batch]:
    """Returns the oldest events of each partition. `counts` says how many.

    Raises `Unreplicated` if replicas may lack some of them. Otherwise a drain would store events that an old primary
    never acknowledged, under numbers that the new primary gives to others.
    """
    first = next(iter(counts))
    with available(), client(first).pipeline(transaction=False) as pipeline:
        for partition, count in counts.items():
            keys = Keys(partition)
            pipeline.xrange(keys.log, count=count).get(keys.fence)
        pipeline.time()
        if settings.REDIS_REPLICAS:
            ask_replicas(pipeline, first)
        answers = pipeline.execute()
    logs, [(seconds, micros), *replicated] = answers[: 2 * len(counts)], answers[2 * len(counts) :]
    check_replicas(replicated)
    return {
        partition: Batch(_events(entries), passed_by(fence), seconds * 1_000_000 + micros)
        for partition, entries, fence in zip(counts, logs[::2], logs[1::2], strict=True)
    }


def _events(entries: Sequence[Any]) -> list[Event]:
    return [Event(_arrival(id), verb, path, text) for id, (_, verb, _, path, _, text) in entries]


def _arrival(id: str) -> int:
    """The arrival timestamp in an entry's id."""
    return int(id.removesuffix("-0"))


def remove(removals: Iterable[Removal], counted: Sequence[int | str] = ()) -> None:
    """Removes events that the database has committed. `counted` is the drain's entry in the metrics (stats.of_drain).

    A call removes at most REMOVED_AT_ONCE events, because Redis serves nobody else meanwhile. The metrics count the
    drain with the first call. If this process dies after that, the next drain counts the rest once more, but no event
    goes uncounted.
    """
    calls: dict[int, tuple[list[str], list[Any]]] = {}
    room = REMOVED_AT_ONCE
    for part in _parts(removals):
        if part.partition in calls or len(part.events) > room:
            run_each("remove", calls)
            calls, room = {}, REMOVED_AT_ONCE
        calls[part.partition] = _call(part, counted)
        room -= len(part.events)
        counted = ()
    run_each("remove", calls)


def _parts(removals: Iterable[Removal]) -> Iterator[Removal]:
    """Splits removals into parts of at most REMOVED_AT_ONCE events."""
    for removal in removals:
        for start in range(0, len(removal.events), REMOVED_AT_ONCE):
            events = removal.events[start : start + REMOVED_AT_ONCE]
            is_last = start + len(events) == len(removal.events)
            yield replace(removal, events=events, through=removal.through if is_last else events[-1].arrival)


def _call(part: Removal, counted: Sequence[int | str]) -> tuple[list[str], list[Any]]:
    """Returns the keys and arguments of remove.lua."""
    keys = Keys(part.partition)
    arrivals, _, paths, _ = zip(*part.events, strict=True)
    removed = json.dumps([paths, arrivals, [event.size for event in part.events], list(part.dead)])
    owner, until = part.lease
    return (
        [keys.log, keys.pending, keys.stored, keys.usage, keys.work, keys.lease],
        [part.through, removed, owner, until // 1000, *counted],
    )


def lengths() -> dict[int, int]:
    """Returns the number of events in each partition's log, without the empty ones."""
    return {partition: length for partition, length in of_all("xlen", "log").items() if length}


def horizon() -> int:
    """Returns an arrival. All earlier events of all partitions are stored, so older rows are complete and in order."""
    # Each Redis has its own clock, and the one that is most behind gives the earliest next arrival.
    latest = [now(partitions[0]) for partitions in groups()]
    firsts = [entries[0] for entries in of_all("xrange", "log", "-", "+", 1).values() if entries]
    return min([*latest, *(_arrival(id) for id, _ in firsts)])
