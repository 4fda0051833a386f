"""What the live processes report: that they read, how many streams they serve, and what they delivered.

They report through the state Redis, as workers do. So readiness, the metrics and the operations page need no address of
a live process, and any web process answers for all of them. Documented in docs/metrics.md.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from chatsystem.writelog.exceptions import LogUnavailable
from chatsystem.writelog.keys import Keys
from chatsystem.writelog.redis_client import available, client, groups, now, of_reachable
from chatsystem.writelog.stats import buckets

#: Seconds after its last report for which a process counts as alive: three reports.
ALIVE = 15
#: Seconds after which the report of a process that has ended is removed.
KEPT = 60

# Fields of `{p}:work`.
DELIVERED = "live events"
WAITED = "live waited"
RESETS = "live resets"
REFUSED = "live refused"
DELAY_TO = "live seconds<="

#: Upper bounds of the delay from an event's acceptance to its delivery, in seconds.
DELAYS = (0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, float("inf"))


class Streams(NamedTuple):
    """What a process serves now."""

    open: int
    #: Bytes of events that it holds for its streams.
    backlog: int


class Delivered(NamedTuple):
    """What all processes have done together, since the counters exist."""

    events: int
    #: Upper bound of a delay, and the events that were delivered within it.
    delays: list[tuple[float, int]]
    #: Sum of these delays, in seconds.
    waited: float
    resets: int
    refused: int

    @classmethod
    def of(cls, fields: Counter[str]) -> Delivered:
        """Parses what `stats.counted` returns."""
        delays = buckets(fields, DELAY_TO, DELAYS)
        return cls(fields[DELIVERED], delays, fields[WAITED] / 1_000_000, fields[RESETS], fields[REFUSED])


class LiveSilent(Exception):
    """No live process has reported lately, so no events are delivered."""


def delay_field(bound: float) -> str:
    return f"{DELAY_TO}{bound}"


def report(process: str, streams: Streams, counted: Mapping[str, int]) -> None:
    """Reports to the first Redis that answers. Raises `LogUnavailable` if none does."""
    error = LogUnavailable("the state Redis has no servers")
    for partitions in groups():
        try:
            _report(partitions[0], process, streams, counted)
        except LogUnavailable as away:
            error = away
        else:
            return
    raise error


def _report(partition: int, process: str, streams: Streams, counted: Mapping[str, int]) -> None:
    keys = Keys(partition)
    at = now(partition) // 1_000_000
    with available():
        ended = [
            name for name, text in client(partition).hgetall(keys.live).items() if int(text.split()[0]) < at - KEPT
        ]
        with client(partition).pipeline(transaction=False) as pipeline:
            pipeline.hset(keys.live, process, f"{at} {streams.open} {streams.backlog}")
            if ended:
                pipeline.hdel(keys.live, *ended)
            for field, count in counted.items():
                pipeline.hincrby(keys.work, field, count)
            pipeline.execute()


def processes() -> dict[str, Streams]:
    """Returns what each process reported last, without those that have ended."""
    return dict(of_reachable(_processes))


def _processes(partitions: Sequence[int]) -> list[tuple[str, Streams]]:
    at = now(partitions[0]) // 1_000_000
    with available():
        found = client(partitions[0]).hgetall(Keys(partitions[0]).live)
    reports = [(name, list(map(int, text.split()))) for name, text in found.items()]
    return [(name, Streams(open, backlog)) for name, (seen, open, backlog) in reports if seen > at - ALIVE]


def expect_processes() -> None:
    """Raises `LiveSilent` if no live process has reported for ALIVE seconds."""
    if not processes():
        raise LiveSilent
