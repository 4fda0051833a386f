"""The fair queue: which request a web process starts next when more wait than it has threads.

Documented in docs/write-log.md.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from typing import Generic, TypeVar

R = TypeVar("R")


class FairQueue(Generic[R]):
    """Round-robin across tenants, with at most `max_concurrent` of the `threads` for each tenant.

    One tenant cannot occupy every thread, however many requests it sends. Not thread-safe: call it from the main loop.
    """

    def __init__(self, threads: int, max_concurrent: int, max_queued: int, max_bytes: int) -> None:
        self.free = threads
        self.max_concurrent = max_concurrent
        #: Requests that one tenant may have in the queue.
        self.max_queued = max_queued
        #: Bytes of queued requests that one tenant may have. All tenants together may have four times as many.
        self.max_bytes = max_bytes
        self._bytes: Counter[str] = Counter()
        self._queued: OrderedDict[str, deque[tuple[R, int]]] = OrderedDict()
        self._running: Counter[str] = Counter()

    def put(self, tenant: str, request: R, size: int = 0) -> bool:
        """Returns False, and queues nothing, when the tenant's queue is full."""
        queue = self._queued.setdefault(tenant, deque())
        too_large = self._bytes[tenant] + size > self.max_bytes or self._bytes.total() + size > 4 * self.max_bytes
        if queue and (len(queue) >= self.max_queued or too_large):
            return False
        queue.append((request, size))
        self._bytes[tenant] += size
        return True

    def next(self) -> tuple[str, R] | None:
        """Returns the tenant and the request to start, or None when none can start now.

        Call `done` with the tenant when the request has ended.
        """
        if not self.free:
            return None
        for tenant, queue in self._queued.items():
            if self._running[tenant] < self.max_concurrent:
                request, size = queue.popleft()
                self._bytes[tenant] -= size
                if queue:
                    self._queued.move_to_end(tenant)
                else:
                    del self._queued[tenant], self._bytes[tenant]
                self._running[tenant] += 1
                self.free -= 1
                return tenant, request
        return None

    def done(self, tenant: str) -> None:
        self.free += 1
        self._running[tenant] -= 1
        if not self._running[tenant]:
            del self._running[tenant]
