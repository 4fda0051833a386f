"""The streams of this process: what each sends, how long it lives, and how many there may be.

Documented in docs/live.md.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

from django.conf import settings
from django.db import DatabaseError, InterfaceError, close_old_connections, connections

from chatsystem.logs.redaction import without_values
from chatsystem.writelog.positions import Position
from live.backlog import Backlog, Change, Partition, Standing
from live.catchup import Page, Subject, TakenBack, TooMuch, pages, recent
from live.counts import counts
from live.frames import reset
from live.reader import AWAY, Reader
from live.replay import check

T = TypeVar("T")

logger = logging.getLogger(__name__)

#: Streams of a process.
MAX_STREAMS = 10_000
#: Seconds of silence after which a stream sends its position. With SWEEP it is less than the 15 of the contract.
HEARTBEAT = 12.0
#: Seconds between two looks at all streams.
SWEEP = 1.0
#: Seconds after which a stream ends, and the share by which that differs between streams.
LIFETIME, SPREAD = 600.0, 0.2
#: Streams that end in a second when the process stops, unless they are too many for that.
ENDS_PER_SECOND = 500
#: Seconds for a client to take what was written to it.
STALLED = 30.0
#: Bytes of events, and events, that are written at once.
WRITE_BYTES, WRITE_EVENTS = 256 * 1024, 2_000
#: Bytes of events that are written without the stream's task. Less than what makes a transport wait for the client.
PUSHED_BYTES = 16 * 1024
#: Seconds between two flushes under load, at least.
MIN_FLUSH = 0.005
#: Threads that read old events, and streams that may wait for one.
REPLAYING, MAX_WAITING = 4, 200
#: Seconds of recent events that a process reads for all streams together. It may have taken that long to be replaced.
RECENT = 30
#: Seconds for which a client may take over a page of old events. After that the page is dropped, and read again later.
PAGE_SECONDS = 1.0
#: Seconds for which a new stream waits until its partition was read.
BEGIN_SECONDS = 3.0


class Refused(Exception):
    """There are too many streams, or the state is away: the client comes again."""


class Streams:
    """All streams of this process. Used on the event loop only."""

    def __init__(self) -> None:
        self.backlog = Backlog()
        self.open: set[Stream] = set()
        self.stopping = False
        #: Streams of the process at most: each holds a file.
        self.max_streams = MAX_STREAMS
        self._of_application: Counter[str] = Counter()
        self._ready: set[Callable[[], None]] = set()
        #: The number of events and the first arrival of each batch that a flush sends → to how many streams.
        self.pushed: Counter[tuple[int, int]] = Counter()
        self._flushing = False
        self._flushed_at = 0.0
        self._flush_took = 0.0
        self._replaying = 0

    def start(self, on_failure: Callable[[], None]) -> None:
        """Begins to read and to sweep. Calls `on_failure` when the reader has failed."""
        self.loop = asyncio.get_running_loop()
        self.on_failure = on_failure
        self.threads = ThreadPoolExecutor(REPLAYING, thread_name_prefix="replay")
        self.pages = asyncio.Semaphore(REPLAYING)
        self.reader = Reader(self.backlog, self.loop, self.apply)
        self.reader.streams = lambda: len(self.open)
        self.reader.start()
        self.loop.call_later(SWEEP, self._sweep)

    def stop(self, within: float) -> None:
        """Refuses new streams, and ends all others one after the other, so that their clients do not return at once."""
        self.stopping = True
        within = min(within, len(self.open) / ENDS_PER_SECOND)
        for stream in self.open:
            self.loop.call_later(random.uniform(0, within), stream.end)

    def recall(self, partition: Partition, position: Position) -> asyncio.Task[None] | None:
        """Reads what was written lately, once for all streams that come back to a new process.

        Returns the task that does. Returns None if it was done already, or if the position is too old for it.
        """
        now = self.loop.time()
        if position.arrival < partition.base - RECENT * 1_000_000:
            return None
        if partition.recall is None and now - partition.recalled_at > RECENT:
            partition.recalled_at = now
            partition.recall = self.loop.create_task(self._recall(partition))
        return partition.recall

    async def _recall(self, partition: Partition) -> None:
        assert partition.head is not None
        base, term = partition.base, partition.head.term
        after = base - RECENT * 1_000_000
        try:
            frames = await self.in_thread(recent, partition.number, term, after, base)
            if (partition.base, partition.head.term) == (base, term):
                partition.prepend(frames, after)
                self.backlog.fit()
        except (TooMuch, TakenBack, *AWAY) as error:
            # Each stream reads for itself then.
            logger.info("recent events were not read: %s", type(error).__name__)
        finally:
            partition.recall = None

    async def in_thread(self, work: Callable[..., T], *arguments: object) -> T:
        """Runs what asks Redis or the database in one of the threads."""
        return await self.loop.run_in_executor(self.threads, _on_fresh_connection, work, *arguments)

    # Claiming

    def claim(self, stream: Stream) -> None:
        """Counts a stream. Raises `Refused` if there are too many. Call `release` in either case."""
        application = stream.subject.token_hash
        if (
            self.stopping
            or len(self.open) >= self.max_streams
            or self._of_application[application] >= settings.STREAMS_PER_APPLICATION
        ):
            raise Refused
        self._of_application[application] += 1
        self.open.add(stream)

    def release(self, stream: Stream) -> None:
        if stream not in self.open:
            return
        application = stream.subject.token_hash
        self.open.discard(stream)
        self._of_application[application] -= 1
        if not self._of_application[application]:
            del self._of_application[application]

    # Flushing: at once when idle. Under load a flush waits half as long as the one before it took, so writes take two
    # thirds of a core at most, and what arrives meanwhile is joined.

    def apply(self, changes: list[Change]) -> None:
        """Takes in what the reader has read, and lets the streams that show it send it."""
        for partition, update in changes:
            self._ready |= partition.apply(update)
        self.backlog.fit()
        if self._ready and not self._flushing:
            self._flushing = True
            self.loop.call_at(self._flushed_at + max(MIN_FLUSH, self._flush_took / 2), self._flush)

    def _flush(self) -> None:
        began = self.loop.time()
        ready, self._ready = self._ready, set()
        for deliver in ready:
            deliver()
        for (events, first), streams in self.pushed.items():
            counts.delivered(events, first, streams)
        self.pushed.clear()
        # Behind the tasks that were woken, in the loop's queue.
        self.loop.call_soon(self._flushed, began)

    def _flushed(self, began: float) -> None:
        self._flushed_at = self.loop.time()
        self._flush_took = self._flushed_at - began
        self._flushing = False
        self.apply([])

    def _sweep(self) -> None:
        """Looks at all streams: one timer instead of one for each."""
        now = self.loop.time()
        for stream in list(self.open):
            stream.look(now)
        self.backlog.drop_unused()
        if self.reader.is_alive or self.stopping:
            self.loop.call_later(SWEEP, self._sweep)
        else:
            self.on_failure()

    @contextmanager
    def replaying(self) -> Iterator[None]:
        """Counts a stream that reads old events during the block. Raises `Refused` if too many do."""
        if self._replaying >= REPLAYING + MAX_WAITING:
            raise Refused
        self._replaying += 1
        try:
            yield
        finally:
            self._replaying -= 1


def _on_fresh_connection(work: Callable[..., T], *arguments: object) -> T:
    close_old_connections()
    try:
        return work(*arguments)
    except (DatabaseError, InterfaceError):
        connections.close_all()
        raise


class Stream:
    """One stream or long poll. It holds a position and no events."""

    __slots__ = (
        "_beat",
        "_keys",
        "_live_from",
        "_partition",
        "_waiter",
        "_writing_since",
        "_wrote_at",
        "abort",
        "ended",
        "ends_at",
        "is_patient",
        "max_events",
        "position",
        "push",
        "streams",
        "subject",
        "write",
    )

    def __init__(
        self,
        streams: Streams,
        subject: Subject,
        write: Callable[[bytes, Position], Awaitable[None]],
        abort: Callable[[], None],
        lifetime: float,
        max_events: int = WRITE_EVENTS,
        push: Callable[[bytes], bool] | None = None,
    ) -> None:
        """`push` writes at once. It writes nothing, and returns False, until the client has taken all earlier bytes."""
        self.streams = streams
        self.subject = subject
        self.write = write
        self.push = push
        self.abort = abort
        self.max_events = max_events
        self.ended = False
        self._keys = subject.keys
        now = streams.loop.time()
        self.ends_at = now + lifetime
        self._wrote_at = now
        #: Whether it waits for the next event. Otherwise it ends when nothing is left to send.
        self.is_patient = True
        #: Since when the client does not take what was written; 0.0 while nothing waits for it.
        self._writing_since = 0.0
        self._waiter: asyncio.Future[None] | None = None
        self._partition: Partition | None = None
        self._beat = False
        self.position: Position | None = None
        #: Events up to this arrival were accepted before the stream began.
        self._live_from = 0

    async def run(
        self, begin: Position | None, is_malformed: bool, begun: Callable[[], Awaitable[None]] | None = None
    ) -> None:
        """Sends what follows the position, or what is acknowledged from now on, until the stream ends.

        Calls `begun` when the position is known. A client whose stream is open expects everything that it posts after
        that. Raises `Refused` when it cannot go on for the moment.
        """
        self._partition = partition = self.streams.backlog.claim(self.subject.partition)
        try:
            if begin is None:
                # The reader may lag behind what was acknowledged before this request. The stream must not show that.
                await self._until_polled(partition)
            else:
                await self._until_read(partition)
            assert partition.head is not None
            self._live_from = partition.head.arrival
            self.position = begin or partition.head
            if begun is not None:
                await begun()
            if is_malformed:
                await self._reset(partition)
            elif begin is None:
                await self._send(b"")
            while not self.ended:
                await self._step(partition)
        except AWAY as error:
            logger.info("a stream ends, because old events cannot be read: %s", type(error).__name__)
            raise Refused from error
        finally:
            self.streams.backlog.release(partition)

    def end(self) -> None:
        self.ended = True
        self.wake()

    def lose_patience(self) -> None:
        self.is_patient = False
        self.wake()

    @property
    def is_waiting(self) -> bool:
        """Whether everything is sent, and the task waits for the next event."""
        return self._waiter is not None and not self._waiter.done()

    def wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def deliver(self) -> None:
        """Sends what is new, or wakes the task for it: a task costs several times what a write does."""
        if not self.is_waiting:
            return
        try:
            pushed = self._pushed()
        except Exception as error:
            # The other streams of this flush must get their events.
            logger.error("A stream has failed:\n%s", without_values(error))
            self.abort()
            return
        if not pushed:
            self.wake()

    def _pushed(self) -> bool:
        """Sends all that is held, if it is little and the client has taken everything before."""
        partition = self._partition
        assert partition is not None
        assert self.position is not None
        if self.push is None or partition.standing(self.position, self.subject.token_hash) is not Standing.HELD:
            return False
        batch = partition.pull(self._keys, self.position, self.max_events, WRITE_BYTES)
        if len(batch.text) > PUSHED_BYTES or (batch.events and not self.push(batch.text)):
            return False
        self.position = batch.position
        if batch.events:
            self.streams.pushed[batch.events, batch.first] += 1
            self._wrote_at = self.streams.loop.time()
        return True

    def look(self, now: float) -> None:
        """Ends the stream at its time, cuts it off from a client that takes nothing, or makes it send its position."""
        if self._writing_since and now - self._writing_since > STALLED:
            self.abort()
        elif now >= self.ends_at:
            self.end()
        elif now - self._wrote_at > HEARTBEAT:
            self._beat = True
            self.wake()

    async def _step(self, partition: Partition) -> None:
        """Sends what is next, or waits for it."""
        assert self.position is not None
        standing = partition.standing(self.position, self.subject.token_hash)
        if standing is Standing.HELD:
            await self._send_held(partition)
        elif standing is Standing.BEHIND:
            await self._catch_up(partition)
        elif standing is Standing.WITHDRAWN or not await self._is_valid(partition, self.position):
            await self._reset(partition)

    async def _send_held(self, partition: Partition) -> None:
        assert self.position is not None
        batch = partition.pull(self._keys, self.position, self.max_events, WRITE_BYTES)
        self.position = batch.position
        if batch.events:
            if batch.first > self._live_from:
                counts.delivered(batch.events, batch.first)
            else:
                counts.replayed(batch.events)
            await self._send(batch.text)
        elif self._beat:
            await self._send(b"")
        elif self.is_patient:
            await self._wait(partition)
        else:
            self.end()

    async def _wait(self, partition: Partition) -> None:
        if self.ended:
            return
        self._waiter = self.streams.loop.create_future()
        partition.wait(self._keys, self.deliver)
        try:
            await self._waiter
        finally:
            partition.stop_waiting(self._keys, self.deliver)

    async def _catch_up(self, partition: Partition) -> None:
        """Sends old events, up to those that are held."""
        assert self.position is not None
        if recall := self.streams.recall(partition, self.position):
            await self._until_done(recall)
            return
        source = pages(self.subject, self.position)
        try:
            with self.streams.replaying():
                while not self.ended and self._is_behind(partition) and await self._send_next(source):
                    pass
        except TakenBack:
            # The position that the client gets must not be one that was taken back too.
            await self._until_polled(partition)
            await self._reset(partition)

    async def _send_next(self, source: Iterator[Page]) -> bool:
        """Sends one page in its turn. Returns False if the stream ended before, or the client was too slow for it."""
        turn = self.streams.loop.create_task(self.streams.pages.acquire())
        reading: asyncio.Task[Page] | None = None
        try:
            if not await self._until_done(turn):
                return False
            reading = self.streams.loop.create_task(self.streams.in_thread(next, source))
            return await self._until_done(reading) and await self._send_page(reading.result())
        finally:
            if turn.done():
                self.streams.pages.release()
            turn.cancel()
            if reading is not None:
                reading.cancel()

    async def _until_done(self, work: asyncio.Task[Any]) -> bool:
        """Waits, and sends heartbeats meanwhile. Returns False if the stream ended before."""
        while not work.done():
            if self.ended:
                return False
            if self._beat:
                await self._send(b"")
            await asyncio.wait([work], timeout=SWEEP)
        return True

    def _is_behind(self, partition: Partition) -> bool:
        assert self.position is not None
        return partition.standing(self.position, self.subject.token_hash) is Standing.BEHIND

    async def _send_page(self, page: Page) -> bool:
        """Returns False if the client was too slow to take all of it."""
        began = self.streams.loop.time()
        for texts, position in page.pieces(self.max_events, WRITE_BYTES):
            if self.ended or self.streams.loop.time() - began > PAGE_SECONDS:
                return False
            self.position = position
            counts.replayed(len(texts))
            await self._send(b"".join(texts))
        self.position = page.position
        return True

    async def _is_valid(self, partition: Partition, position: Position) -> bool:
        """Returns whether a position counts that is later than what this process has read, or of another term.

        Another process may have read more than this one has. So this waits until the partition was read once more.
        """
        await self._until_polled(partition)
        assert partition.head is not None
        # If events are taken back meanwhile, the partition has another dictionary, and the position is checked again.
        term, former = partition.head.term, partition.former
        valid = await self.streams.in_thread(check, partition.number, position, term, partition.clock)
        if valid and position.term != term:
            former[position.term] = max(position.arrival, former.get(position.term, -1))
        return valid

    async def _until_read(self, partition: Partition) -> None:
        """Raises `Refused` if the partition cannot be read."""
        await self._until(lambda: partition.head is not None)

    async def _until_polled(self, partition: Partition) -> None:
        """Waits until the reader has read all that is acknowledged by now. Raises as `_until_read` does."""
        began, polled = time.monotonic(), self.streams.reader.polled
        # A round may report for a partition of this number that was dropped before this one was claimed.
        await self._until(lambda: partition.head is not None and polled.get(partition.number, 0.0) > began)

    async def _until(self, question: Callable[[], bool]) -> None:
        until = time.monotonic() + BEGIN_SECONDS
        while not question():
            if time.monotonic() > until:
                raise Refused
            await asyncio.sleep(0.01)

    async def _send(self, text: bytes) -> None:
        """Writes, and waits until the client takes it."""
        assert self.position is not None
        self._beat = False
        self._writing_since = self.streams.loop.time()
        await self.write(text, self.position)
        self._writing_since = 0.0
        self._wrote_at = self.streams.loop.time()

    async def _reset(self, partition: Partition) -> None:
        assert partition.head is not None
        counts.reset()
        self.position = partition.head
        await self._send(reset(self.position))
