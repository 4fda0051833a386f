"""What workers have done, for the metrics: counted in Redis, since workers come and go, and run on several hosts.

Documented in docs/operations.md.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

#: Upper bounds of the buckets: seconds from a drain's lock to its commit, and events of its transaction.
SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, float("inf"))
EVENTS = (1.0, 10.0, 50.0, 100.0, 250.0, 500.0, 1000.0, 2000.0, float("inf"))

# Fields of `{p}:work`. Those that count the drains of a bucket are a prefix and the bucket's upper bound.
TOOK = "took"
STORED = "events"
DRIFTS = "drifts"
SECONDS_TO = "seconds<="
EVENTS_TO = "events<="


@dataclass(frozen=True, slots=True)
class Histogram:
    #: Upper bound, and how many are not above it.
    buckets: list[tuple[float, int]]
    sum: float


@dataclass(frozen=True, slots=True)
class Work:
    seconds: Histogram
    events: Histogram
    drifts: int

    @classmethod
    def parse(cls, hashes: Iterable[dict[str, str]]) -> Work:
        """Of what the partitions hold."""
        fields: Counter[str] = Counter()
        for each in hashes:
            fields.update({name: int(value) for name, value in each.items()})
        return cls(
            Histogram(_buckets(fields, SECONDS_TO, SECONDS), fields[TOOK] / 1_000_000),
            Histogram(_buckets(fields, EVENTS_TO, EVENTS), fields[STORED]),
            fields[DRIFTS],
        )


def of_drain(seconds: float, events: int) -> tuple[int, int, str, str]:
    """What remove.lua is told: microseconds, events, and the fields that count a drain of this time and size."""
    return (
        round(seconds * 1_000_000),
        events,
        f"{SECONDS_TO}{SECONDS[bisect_left(SECONDS, seconds)]}",
        f"{EVENTS_TO}{EVENTS[bisect_left(EVENTS, events)]}",
    )


def _buckets(fields: Counter[str], prefix: str, bounds: tuple[float, ...]) -> list[tuple[float, int]]:
    counted = dict.fromkeys(bounds, 0)
    # Also those of another version, which had other bounds.
    counted |= {float(name.removeprefix(prefix)): n for name, n in fields.items() if name.startswith(prefix)}
    below = 0
    buckets = []
    for bound, drains in sorted(counted.items()):
        below += drains
        buckets.append((bound, below))
    return buckets
