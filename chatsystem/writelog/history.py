"""The log's totals of the last minutes, in the cache: for people to look at, and for nothing else."""

from __future__ import annotations

from typing import NamedTuple

from django.core.cache import cache

from chatsystem.cache import asked
from chatsystem.writelog import vitals
from chatsystem.writelog.state import now

#: Seconds that are remembered.
SPAN = 300

_KEY = "writelog:history"


class Sample(NamedTuple):
    """The totals of all partitions together."""

    acknowledged: int
    stored: int
    #: Seconds, by the clock of Redis: so samples that several processes have taken are comparable.
    at: float


def sample() -> Sample:
    totals = vitals.totals()
    return Sample(sum(total.acknowledged for total in totals), sum(total.stored for total in totals), now() / 1_000_000)


def add(newest: Sample) -> None:
    # Two that add at once leave one sample out, which no rate needs: totals are exact whenever they are asked for.
    kept = [earlier for earlier in samples() if newest.at - SPAN < earlier.at < newest.at]
    asked(lambda: cache.set(_KEY, [*kept, newest], SPAN), None)


def samples() -> list[Sample]:
    """Oldest first."""
    nothing: list[Sample] = []
    return asked(lambda: cache.get(_KEY, nothing), nothing)
