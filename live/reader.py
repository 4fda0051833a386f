"""Reads the log for all streams of this process, in a thread of its own. Documented in docs/live.md.

It polls the ends of the partitions that have streams, one round trip for each Redis, and reads those that have moved.
Nothing is waited for in Redis: one command cannot wait for keys of several slots of a Cluster.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from django.db import DatabaseError, InterfaceError, close_old_connections, connections

from chatsystem.logs.redaction import without_values
from chatsystem.writelog import live_stats
from chatsystem.writelog.exceptions import LogUnavailable
from chatsystem.writelog.feed import Gap
from chatsystem.writelog.positions import Position
from chatsystem.writelog.redis_client import groups
from chatsystem.writelog.tail import Tail, heads, tails
from live.backlog import Backlog, Change, Partition, Update
from live.counts import counts
from live.events import LiveEvent, events_of
from live.frames import frames_of
from live.replay import check, fill
from live.tickets import token_hash

logger = logging.getLogger(__name__)

#: Seconds between two polls.
PACE = 0.02
#: Seconds for which a partition or a Redis that could not be read is left alone, at least.
REST = 0.2
#: Seconds between two reports to readiness and the metrics.
REPORT_PACE = 5.0
#: Seconds for which the thread waits for a busy event loop. If it waited until the next drain, it would find the log
#: trimmed, and would have to ask the database.
PATIENCE = 0.1
#: Bytes of events that the event loop may have left to take in. Beyond this the thread waits for it.
MAX_BEHIND = 8 * 1024 * 1024
#: Errors of the state Redis and of the database that mean "not now".
AWAY = (LogUnavailable, DatabaseError, InterfaceError)
#: Seconds without a round after which the thread counts as stuck: many times what Redis and the database may take.
STUCK = 60.0


class Reader:
    """The thread. It ends the process when it fails: streams would stay open and silent."""

    def __init__(
        self, backlog: Backlog, loop: asyncio.AbstractEventLoop, apply: Callable[[list[Change]], None]
    ) -> None:
        self.backlog = backlog
        self.loop = loop
        #: Called on the event loop with what was read.
        self.apply = apply
        #: When each partition was last seen up to its end, or read, by time.monotonic(). Streams compare it with now.
        self.polled: dict[int, float] = {}
        self.beat_at = time.monotonic()
        self.streams: Callable[[], int] = lambda: 0
        #: Names this process in the reports.
        self.name = f"{socket.gethostname()}:{os.getpid()}"
        #: Bytes that were handed to the event loop, and that it has taken in. Each has one writer.
        self._handed = self._taken = 0
        self._rests_until: dict[int, float] = {}
        self._reported_at = self._logged_at = -REPORT_PACE
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="reader", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._ending.set()

    @property
    def is_alive(self) -> bool:
        return self._thread.is_alive() and time.monotonic() - self.beat_at < STUCK

    def _run(self) -> None:
        try:
            while not self._ending.wait(PACE):
                self.beat_at = time.monotonic()
                self._round()
                self._report()
        except BaseException as error:
            # Whoever looks at `is_alive` ends the process, and the server starts another one.
            logger.error("the reader of the log has failed:\n%s", without_values(error))
        finally:
            connections.close_all()

    def _round(self) -> None:
        partitions = list(self.backlog.partitions.values())
        if not partitions:
            return
        by_number = {partition.number: partition for partition in partitions}
        try:
            together = groups()
        except LogUnavailable:
            return
        for group in together:
            due = [by_number[number] for number in group if number in by_number and not self._rests(number)]
            if due:
                self._read_server(due)

    def _read_server(self, due: Sequence[Partition]) -> None:
        """Reads partitions of one Redis."""
        began = time.monotonic()
        # The database may be asked below: to confirm a lease, for former terms, and for what was trimmed.
        close_old_connections()
        try:
            at = heads([partition.number for partition in due])
            moved = [one for one in due if one.cursor != at[one.number]]
            found: dict[int, Tail | LogUnavailable] = {}
            if moved:
                found = tails({one.number: (one.cursor or at[one.number]).arrival for one in moved})
        except AWAY as error:
            self._is_away(error)
            # A server that does not answer takes time, which all others wait.
            self._rest(due, max(REST, time.monotonic() - began))
            return
        changes: list[Change] = []
        read = []
        for partition in due:
            tail = found.get(partition.number)
            if isinstance(tail, LogUnavailable):
                self._rest([partition], REST)
                continue
            if tail is not None:
                try:
                    changes.append((partition, self._advance(partition, at[partition.number].arrival, tail)))
                except AWAY as error:
                    self._is_away(error)
                    self._rest([partition], REST)
                    continue
            read.append(partition)
        self._hand_over(changes, {partition.number: began for partition in read})

    def _advance(self, partition: Partition, clock: int, tail: Tail) -> Update:
        """Moves the partition's cursor to the end of what was read, and returns that."""
        cursor = partition.cursor
        former: dict[int, int] = {}
        missed: Iterable[LiveEvent] = ()
        if cursor is None:
            return self._begin(partition, max(clock, tail.stored), tail)
        if tail.term != cursor.term or tail.clock < cursor.arrival:
            if not check(partition.number, cursor, tail.term, tail.clock):
                # Events were taken back. Each stream compares its own position with what is left.
                return self._move(partition, Position(tail.term, tail.clock), tail, base=tail.clock)
            former = {cursor.term: cursor.arrival}
        if tail.stored > cursor.arrival:
            # The gap rule: what lies between was stored, and trimmed from the log, before it was read.
            try:
                missed = list(fill(partition.number, cursor.arrival, tail.stored))
            except Gap:
                return self._begin(partition, tail.stored, tail)
        frames = frames_of(tail.term, [*missed, *events_of(tail.entries)])
        return self._move(partition, _end(tail), tail, frames=frames, former=former)

    def _begin(self, partition: Partition, base: int, tail: Tail) -> Update:
        """Begins anew. Streams at positions before `base` are left to the database and the feed."""
        return self._move(partition, _end(tail), tail, frames=frames_of(tail.term, events_of(tail.entries)), base=base)

    def _move(self, partition: Partition, head: Position, tail: Tail, **read: Any) -> Update:
        partition.cursor = head
        withdrawn = {token_hash(token): arrival for token, arrival in tail.withdrawn.items()}
        return Update(head, tail.clock, withdrawn=withdrawn, **read)

    def _hand_over(self, changes: list[Change], polled: dict[int, float]) -> None:
        """Lets the event loop take in what was read, and waits for it, but not long.

        A loop that accepts two thousand connections takes a second. The order of the updates stays.
        """
        if not changes and self._handed == self._taken:
            self.polled |= polled
            return
        done = threading.Event()
        # One more for each change, since a change may hold no event.
        size = len(changes) + sum(len(frame.text) for _, update in changes for frame in update.frames)

        def apply() -> None:
            try:
                self.apply(changes)
                self.polled |= polled
            finally:
                self._taken += size
                done.set()

        self._handed += size
        try:
            self.loop.call_soon_threadsafe(apply)
        except RuntimeError:
            # The loop has ended with the process.
            return
        done.wait(PATIENCE)
        while self._handed - self._taken > MAX_BEHIND and not self._ending.is_set():
            self.beat_at = time.monotonic()
            done.wait(PATIENCE)

    def _is_away(self, error: Exception) -> None:
        if not isinstance(error, LogUnavailable):
            connections.close_all()
        # One line in a while: it is tried again several times a second.
        if time.monotonic() > self._logged_at + REPORT_PACE:
            self._logged_at = time.monotonic()
            logger.warning("events wait: %s", type(error).__name__)

    def _rests(self, number: int) -> bool:
        return time.monotonic() < self._rests_until.get(number, 0.0)

    def _rest(self, partitions: Iterable[Partition], seconds: float) -> None:
        until = time.monotonic() + seconds
        for partition in partitions:
            self._rests_until[partition.number] = until

    def _report(self) -> None:
        """Tells readiness that this process reads, and adds up its metrics."""
        if time.monotonic() < self._reported_at + REPORT_PACE:
            return
        self._reported_at = time.monotonic()
        taken = counts.take()
        try:
            live_stats.report(self.name, live_stats.Streams(self.streams(), self.backlog.bytes), taken)
        except LogUnavailable:
            counts.give_back(taken)


def _end(tail: Tail) -> Position:
    return Position(tail.term, max(tail.through, tail.stored))
