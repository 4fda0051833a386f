"""Arrival times: microseconds since 1970, as the state Redis counts them, and the database's datetimes.

An arrival is an event's identity, its place in the log and its version at once. Documented in docs/write-log.md.
"""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
MICROSECOND = timedelta(microseconds=1)


def to_datetime(arrival: int) -> datetime:
    return EPOCH + arrival * MICROSECOND


def to_micros(moment: datetime) -> int:
    """Exact: a float of seconds would lose the last microsecond."""
    return (moment - EPOCH) // MICROSECOND
