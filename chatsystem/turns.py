"""Turns: which request a web process takes next when more wait than it has threads. Documented in docs/write-log.md."""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from typing import Generic, TypeVar

R = TypeVar("R")


class Turns(Generic[R]):
    """Requests that wait, and how many of each party are under way.

    Parties come up one after the other, however much each has waiting, and none has more than `share` of the `threads`
    at once: so there is a thread at hand for whoever comes next. Of a single thread, as gunicorn's main loop is one.
    """

    def __init__(self, threads: int, share: int, room: int) -> None:
        self.free = threads
        self.share = share
        #: Requests that one party may have waiting.
        self.room = room
        self._waiting: OrderedDict[str, deque[R]] = OrderedDict()
        self._under_way: Counter[str] = Counter()

    def wait(self, party: str, request: R) -> bool:
        """False when the party has as many waiting as it may."""
        line = self._waiting.setdefault(party, deque())
        if len(line) >= self.room:
            return False
        line.append(request)
        return True

    def next(self) -> tuple[str, R] | None:
        """The request whose turn it is; None when none can be begun now. `done` is to be called when it has ended."""
        if not self.free:
            return None
        for party, line in self._waiting.items():
            if self._under_way[party] < self.share:
                request = line.popleft()
                if line:
                    self._waiting.move_to_end(party)
                else:
                    del self._waiting[party]
                self._under_way[party] += 1
                self.free -= 1
                return party, request
        return None

    def done(self, party: str) -> None:
        self.free += 1
        self._under_way[party] -= 1
        if not self._under_way[party]:
            del self._under_way[party]
