"""The connections that the main loop waits for, oldest first, with a limit of time and of memory."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from selectors import BaseSelector

from gunicorn.workers.gthread import TConn


class WaitingConnections:
    """Connections that wait for one event, such as more bytes of a request.

    Not thread-safe: call it from the main loop only.
    """

    def __init__(self, poller: BaseSelector, event: int, ready: Callable[[TConn], None], max_bytes: int) -> None:
        self.poller = poller
        self.event = event
        self.ready = ready
        #: Limit for the bytes of all connections together. A single one may exceed it.
        self.max_bytes = max_bytes
        #: When each connection began to wait, oldest first.
        self.since: dict[TConn, float] = {}
        self._bytes: dict[TConn, int] = {}
        self._total = 0

    def add(self, conn: TConn, size: int = 0) -> None:
        """Calls `ready` with the connection at each event, until it is removed. `size` is its buffered bytes."""
        self.since[conn] = time.monotonic()
        self.resize(conn, size)
        # An earlier event of the same round may have removed the connection.
        self.poller.register(conn.sock, self.event, lambda _: self.ready(conn) if conn in self.since else None)

    def remove(self, conn: TConn) -> None:
        self.resize(conn, 0)
        del self.since[conn], self._bytes[conn]
        self.poller.unregister(conn.sock)

    def resize(self, conn: TConn, size: int) -> None:
        """Notes how many bytes the connection holds now."""
        self._total += size - self._bytes.get(conn, 0)
        self._bytes[conn] = size

    def pop_late(self, seconds: float) -> Iterator[TConn]:
        """Removes and yields the connections that have waited longer than `seconds`."""
        began_before = time.monotonic() - seconds
        while self.since and self.since[first := next(iter(self.since))] < began_before:
            self.remove(first)
            yield first

    def pop_oldest(self) -> TConn | None:
        """Removes and returns the connection that has waited longest, or returns None."""
        conn = next(iter(self.since), None)
        if conn is not None:
            self.remove(conn)
        return conn

    def pop_excess(self) -> Iterator[TConn]:
        """Removes and yields the largest connections until the others fit into `max_bytes`."""
        while self._total > self.max_bytes and len(self._bytes) > 1:
            largest = max(self._bytes, key=lambda conn: self._bytes[conn])
            self.remove(largest)
            yield largest
