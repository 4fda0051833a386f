"""What this process has delivered since its last report. Documented in docs/metrics.md."""

from __future__ import annotations

import time
from bisect import bisect_left
from collections import Counter
from threading import Lock

from chatsystem.writelog.live_stats import DELAYS, DELIVERED, REFUSED, RESETS, WAITED, delay_field

#: The counters of the delays, made once: a stream counts each of its writes.
DELAY_FIELDS = tuple(map(delay_field, DELAYS))


class Counts:
    """Thread-safe: the event loop counts, and the reader reports."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._counts: Counter[str] = Counter()

    def delivered(self, events: int, first: int, streams: int = 1) -> None:
        """Counts events that were written to each of so many streams. `first` is the arrival of the oldest of them.

        All count with the delay of the oldest: they are written together.
        """
        seconds = max(time.time() - first / 1_000_000, 0.0)
        events *= streams
        with self._lock:
            self._counts[DELIVERED] += events
            self._counts[WAITED] += round(seconds * 1_000_000) * events
            self._counts[DELAY_FIELDS[bisect_left(DELAYS, seconds)]] += events

    def replayed(self, events: int) -> None:
        """Counts events that a stream has asked for after they were accepted. They have no delay."""
        with self._lock:
            self._counts[DELIVERED] += events

    def reset(self) -> None:
        with self._lock:
            self._counts[RESETS] += 1

    def refused(self) -> None:
        with self._lock:
            self._counts[REFUSED] += 1

    def take(self) -> Counter[str]:
        """Returns what was counted, and begins again."""
        with self._lock:
            taken, self._counts = self._counts, Counter()
        return taken

    def give_back(self, taken: Counter[str]) -> None:
        """Adds what could not be reported."""
        with self._lock:
            self._counts += taken


counts = Counts()
