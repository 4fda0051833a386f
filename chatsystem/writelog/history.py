"""The log's totals of the last minutes, in the cache: for people to look at, and for nothing else."""

from __future__ import annotations

from django.core.cache import cache

from chatsystem.cache import asked
from chatsystem.writelog.log import Totals

#: Seconds that are remembered.
SPAN = 300

_KEY = "writelog:history"


def add(totals: Totals) -> None:
    # Two that add at once leave one sample out, which no rate needs: totals are exact whenever they are asked for.
    kept = [earlier for earlier in samples() if totals.at - SPAN < earlier.at < totals.at]
    asked(lambda: cache.set(_KEY, [*kept, totals], SPAN), None)


def samples() -> list[Totals]:
    """Oldest first."""
    nothing: list[Totals] = []
    return asked(lambda: cache.get(_KEY, nothing), nothing)
