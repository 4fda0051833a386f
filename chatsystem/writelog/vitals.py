"""What the state Redis tells of itself and of the log: for readiness, metrics and people.

Documented in docs/operations.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import redis

from chatsystem.writelog import log, work
from chatsystem.writelog.keys import HEARTBEAT, PARTITIONS, PROBE, Keys
from chatsystem.writelog.state import available, client, now, of_all

#: How a Redis is configured that has on its disk what it acknowledged, and never throws any of it away.
SAFE = {"appendonly": "yes", "appendfsync": "always", "maxmemory-policy": "noeviction"}

#: How Redis answers a question about a stream to which nothing was ever added.
NO_SUCH_KEY = "no such key"


class WorkersSilent(Exception):
    """Writes are accepted, and nobody seems to store them."""


@dataclass(frozen=True, slots=True)
class Backlog:
    """How far the database is behind what was acknowledged."""

    events: int
    #: Age of the oldest event.
    seconds: float


@dataclass(frozen=True, slots=True)
class Totals:
    """Events that have come through a partition's log since there is one."""

    acknowledged: int
    stored: int


def probe() -> None:
    """Raises `LogUnavailable` unless the state Redis takes writes: one that is read-only, full or loading does not."""
    with available():
        client().set(PROBE, "1", px=1000)


def hazards() -> list[str]:
    """Why the state Redis could lose what was acknowledged; empty for one that keeps it."""
    with available():
        try:
            found = client().config_get(*SAFE)
        except redis.exceptions.NoPermissionError:
            return ["its configuration cannot be read: grant the user +config|get"]
    return [f"{name} is {found.get(name)}, not {safe}" for name, safe in SAFE.items() if found.get(name) != safe]


def max_memory() -> int:
    """Bytes that the state Redis may use; 0 when nothing bounds it, or its configuration cannot be read."""
    with available():
        try:
            return int(client().config_get("maxmemory")["maxmemory"])
        except redis.exceptions.NoPermissionError:
            return 0


def beat_heart() -> None:
    """Called by a worker, to say that workers work."""
    with available():
        client().set(HEARTBEAT, "1", ex=15)


def expect_workers() -> None:
    """Raises `WorkersSilent` when no worker has shown itself for 15 seconds."""
    with available():
        if not client().exists(HEARTBEAT):
            raise WorkersSilent


def backlog() -> Backlog:
    """What waits in all logs together."""
    return Backlog(sum(log.lengths().values()), max(now() - log.horizon(), 0) / 1_000_000)


def totals() -> list[Totals]:
    """Of each partition. Streams count what is added to them, also over a restart: append has nothing to do for it."""
    with available():
        pipeline = client().pipeline(transaction=False)
        for partition in range(PARTITIONS):
            pipeline.xinfo_stream(Keys(partition).log)
        found = pipeline.execute(raise_on_error=False)
    return [_total(stream) for stream in found]


def _total(stream: dict[str, Any] | redis.RedisError) -> Totals:
    if isinstance(stream, redis.ResponseError) and str(stream) == NO_SUCH_KEY:
        return Totals(0, 0)
    if isinstance(stream, redis.RedisError):
        raise stream
    added: int = stream["entries-added"]
    return Totals(added, added - stream["length"])


def done() -> work.Work:
    """What the workers have done, in all partitions together."""
    with available():
        return work.Work.parse(of_all("hgetall", "work"))


def count_drifts(partition: int, drifts: int) -> None:
    with available():
        client().hincrby(Keys(partition).work, work.DRIFTS, drifts)
