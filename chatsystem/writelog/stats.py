"""What Redis tells about itself and the log: readiness, log statistics, drain metrics and throughput samples.

The drain metrics are counted in Redis, because workers come and go and run on several hosts. Documented in
docs/metrics.md.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import redis
from django.core.cache import cache

from chatsystem.cache import with_fallback
from chatsystem.writelog import stream
from chatsystem.writelog.exceptions import NotPermitted
from chatsystem.writelog.keys import Keys
from chatsystem.writelog.redis_client import available, client, expect_replicas, groups, now, of_all, of_reachable
from chatsystem.writelog.scripts import may_run_info, run

#: The configuration of a Redis that has on its disk what it acknowledged and never evicts any of it.
SAFE = {"appendonly": "yes", "appendfsync": "always", "maxmemory-policy": "noeviction"}

GRANT_CONFIG = (
    "Grant its user +config|get. If the service does not allow that, make sure that it has appendonly yes, "
    "appendfsync always and maxmemory-policy noeviction."
)
GRANT_INFO = (
    "Grant its user +info. If the service does not allow that, make sure that it never copies scripts from one process "
    "to another: Redis 7 and Valkey do not."
)

#: Redis's error for a stream to which nothing was ever added.
NO_SUCH_KEY = "no such key"

#: Upper bounds of the histograms' buckets: seconds from a drain's lock to its commit, and events of its transaction.
SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, float("inf"))
EVENTS = (1.0, 10.0, 50.0, 100.0, 250.0, 500.0, 1000.0, 2000.0, 5000.0, float("inf"))

# Fields of `{p}:work`. A field that counts the drains of a bucket is a prefix and the bucket's upper bound.
TOOK = "took"
STORED = "events"
DRIFTS = "drifts"
SECONDS_TO = "seconds<="
EVENTS_TO = "events<="

#: Seconds of throughput samples.
SPAN = 300
SAMPLES = "writelog:history"


class WorkersSilent(Exception):
    """No worker has shown itself lately, so accepted writes wait."""


@dataclass(frozen=True, slots=True)
class Backlog:
    """How far the database is behind what was acknowledged."""

    events: int
    #: Age of the oldest event.
    seconds: float


@dataclass(frozen=True, slots=True)
class Totals:
    """Events that have passed through a partition's log since it exists."""

    acknowledged: int
    stored: int


class Hazard(NamedTuple):
    """A reason why Redis could lose acknowledged writes. A `remedy` marks one that is only not ruled out."""

    text: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Histogram:
    #: Upper bound, and the number of drains at or below it.
    buckets: list[tuple[float, int]]
    sum: float


@dataclass(frozen=True, slots=True)
class Work:
    """The drain metrics of all partitions."""

    seconds: Histogram
    events: Histogram
    drifts: int

    @classmethod
    def of(cls, fields: Counter[str]) -> Work:
        """Parses what `counted` returns."""
        return cls(
            Histogram(buckets(fields, SECONDS_TO, SECONDS), fields[TOOK] / 1_000_000),
            Histogram(buckets(fields, EVENTS_TO, EVENTS), fields[STORED]),
            fields[DRIFTS],
        )


class Sample(NamedTuple):
    """The totals of all partitions together, at one time."""

    acknowledged: int
    stored: int
    #: Seconds, by the clock of Redis: comparable between processes.
    at: float


def probe(partitions: Sequence[int]) -> None:
    """Raises `LogUnavailable` unless the partitions' Redis takes writes: not while it is read-only, full or loading.

    Raises `NotPermitted` if its user may not run one of the commands that a write takes.
    """
    run(partitions[0], "probe", [Keys(partitions[0]).probe], [])
    expect_replicas(partitions[0])


def hazards() -> list[Hazard]:
    """Returns an empty list if every Redis that answers is known to keep what it acknowledged."""
    # Servers that are configured alike have the same hazards.
    return list(dict.fromkeys(of_reachable(_hazards)))


def _hazards(partitions: Sequence[int]) -> list[Hazard]:
    return _hazards_of_configuration(partitions[0]) + _hazards_of_process(partitions[0])


def _hazards_of_configuration(partition: int) -> list[Hazard]:
    try:
        with available():
            found = client(partition).config_get(*SAFE)
    except NotPermitted:
        return [Hazard("its configuration cannot be read (CONFIG GET is refused)", GRANT_CONFIG)]
    return [
        Hazard(f"{name} is {found[name]}, not {safe}")
        if name in found
        # A managed service shows only a part of its configuration.
        else Hazard(f"{name} cannot be read (CONFIG GET does not return it)", GRANT_CONFIG)
        for name, safe in SAFE.items()
        if found.get(name) != safe
    ]


def _hazards_of_process(partition: int) -> list[Hazard]:
    if may_run_info(partition):
        return []
    return [Hazard("a restart and a failover are detected by its script cache alone (INFO is refused)", GRANT_INFO)]


def is_memory_limited(partition: int) -> bool:
    """Returns whether the partition's Redis has a maxmemory; False if its configuration cannot be read."""
    try:
        with available():
            return int(client(partition).config_get("maxmemory").get("maxmemory", 0)) > 0
    except NotPermitted:
        return False


def beat_heart() -> None:
    """Records that a worker is alive. Raises `LogUnavailable` if no Redis keeps the record."""
    of_reachable(_beat_heart)


def _beat_heart(partitions: Sequence[int]) -> list[object]:
    with available():
        return [client(partitions[0]).set(Keys(partitions[0]).heartbeat, "1", ex=15)]


def expect_workers() -> None:
    """Raises `WorkersSilent` if no worker has shown itself for 15 seconds."""
    if not any(of_reachable(_heartbeats)):
        raise WorkersSilent


def _heartbeats(partitions: Sequence[int]) -> list[int]:
    with available():
        return [client(partitions[0]).exists(Keys(partitions[0]).heartbeat)]


def backlog() -> Backlog:
    """Returns what waits in all logs together."""
    latest = max(now(partitions[0]) for partitions in groups())
    return Backlog(sum(stream.lengths().values()), max(latest - stream.horizon(), 0) / 1_000_000)


def totals() -> dict[int, Totals]:
    """Returns the totals of each partition. Redis counts the entries of a stream itself, also across restarts."""
    found: dict[int, Totals] = {}
    for partitions in groups():
        with available(), client(partitions[0]).pipeline(transaction=False) as pipeline:
            for partition in partitions:
                pipeline.xinfo_stream(Keys(partition).log)
            answers = pipeline.execute(raise_on_error=False)
            found |= {partition: _total(info) for partition, info in zip(partitions, answers, strict=True)}
    return found


def _total(info: dict[str, Any] | redis.RedisError) -> Totals:
    if isinstance(info, redis.ResponseError) and str(info) == NO_SUCH_KEY:
        return Totals(0, 0)
    if isinstance(info, redis.RedisError):
        raise info
    added: int = info["entries-added"]
    return Totals(added, added - info["length"])


def of_drain(seconds: float, events: int) -> tuple[int, int, str, str]:
    """Returns the arguments by which remove.lua counts a drain: microseconds, events, and the fields of its buckets."""
    return (
        round(seconds * 1_000_000),
        events,
        f"{SECONDS_TO}{SECONDS[bisect_left(SECONDS, seconds)]}",
        f"{EVENTS_TO}{EVENTS[bisect_left(EVENTS, events)]}",
    )


def counted() -> Counter[str]:
    """Returns the fields of `{p}:work`, summed over all partitions: of `Work`, and of live_stats.py's `Delivered`."""
    fields: Counter[str] = Counter()
    for each in of_all("hgetall", "work").values():
        fields.update({name: int(value) for name, value in each.items()})
    return fields


def buckets(fields: Counter[str], prefix: str, bounds: tuple[float, ...]) -> list[tuple[float, int]]:
    counted = dict.fromkeys(bounds, 0)
    # Includes the buckets of other versions, which had other bounds.
    counted |= {float(name.removeprefix(prefix)): n for name, n in fields.items() if name.startswith(prefix)}
    below = 0
    buckets = []
    for bound, drains in sorted(counted.items()):
        below += drains
        buckets.append((bound, below))
    return buckets


def count_drifts(partition: int, drifts: int) -> None:
    with available():
        client(partition).hincrby(Keys(partition).work, DRIFTS, drifts)


def sample() -> Sample:
    """Returns the totals of now."""
    by_partition = totals().values()
    acknowledged, stored = sum(each.acknowledged for each in by_partition), sum(each.stored for each in by_partition)
    return Sample(acknowledged, stored, now(0) / 1_000_000)


def add_sample(newest: Sample) -> None:
    """Keeps a sample in the cache, for people to look at and for nothing else."""
    # Two concurrent calls drop one sample. No rate needs it, since the totals themselves are exact.
    kept = [earlier for earlier in samples() if newest.at - SPAN < earlier.at < newest.at]
    with_fallback(lambda: cache.set(SAMPLES, [*kept, newest], SPAN), None)


def samples() -> list[Sample]:
    """Returns the samples of the last SPAN seconds, oldest first."""
    nothing: list[Sample] = []
    return with_fallback(lambda: cache.get(SAMPLES, nothing), nothing)
