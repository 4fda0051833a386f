"""What this process has read of the log: shared by all of its streams. Documented in docs/live.md.

An event is encoded once. A stream holds a position in here instead of a buffer, so a slow client costs no memory, and a
thousand clients that come back cost neither SQL nor a request to Redis. Used on the event loop only.
"""

from __future__ import annotations

import asyncio
import math
import time
from bisect import bisect_right
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Sequence
from enum import Enum
from typing import NamedTuple

from chatsystem.writelog.positions import Position

#: Bytes of events that a process holds at most. Beyond it drops the oldest ones of the largest partition.
MAX_BYTES = 64 * 1024 * 1024
#: Bytes that an event takes beside its text.
OVERHEAD = 300
#: Seconds for which a partition is still read after its last stream has ended: its clients may come back.
KEPT_WITHOUT_STREAMS = 90.0

#: An application by the hash of its token, and one of its chats or None for all of them.
Key = tuple[str, int | None]


class Frame(NamedTuple):
    """An event as streams send it."""

    arrival: int
    keys: Sequence[Key]
    text: bytes


class Update(NamedTuple):
    """What the reader has read of a partition."""

    #: All events up to here are known now. `frames` are those since the previous update, or since `base`.
    head: Position
    #: By Redis, when this was read: as `head`, unless there is more to read.
    clock: int
    frames: Sequence[Frame] = ()
    #: If set, earlier events are not held: this is the first update, or the reader has missed some.
    base: int | None = None
    #: Terms that ended since the previous update, and through which arrival each counts.
    former: dict[int, int] = {}
    #: The hash of a token → where streams of that application are reset.
    withdrawn: dict[str, int] = {}


class Standing(Enum):
    """A stream's position, compared with what is held."""

    #: Everything after it is held.
    HELD = 1
    #: It is older. The database and the log have what follows.
    BEHIND = 2
    #: It is later than everything that this process has read.
    AHEAD = 3
    #: It is of a term of which this process does not know through which arrival it counts.
    OF_ANOTHER_TERM = 4
    #: An event that it may have shown was discarded.
    WITHDRAWN = 5


class Batch(NamedTuple):
    """Some of the events after a position, ready to be sent, and the position after them."""

    text: bytes
    events: int
    position: Position
    #: Arrival of the first event; 0 without any.
    first: int = 0


class Channel:
    """The held events of one key, and the streams that wait for more."""

    __slots__ = ("arrivals", "joined", "texts", "waiting")

    def __init__(self) -> None:
        self.arrivals: list[int] = []
        self.texts: list[bytes] = []
        #: Batches by the arrival after which they begin: most streams are at the same position.
        self.joined: dict[tuple[int, int], Batch] = {}
        #: Called once when there is something new.
        self.waiting: set[Callable[[], None]] = set()

    def after(self, arrival: int) -> int:
        """Returns the index of the first later event."""
        return bisect_right(self.arrivals, arrival)


#: Batches of one channel that are kept joined.
MAX_JOINED = 4


class Partition:
    """The held events of a partition: all after `base`, up to `head`."""

    def __init__(self, number: int) -> None:
        self.number = number
        #: Up to where the reader has read. Only the reader uses it. It is not `head`, which follows on the event loop.
        self.cursor: Position | None = None
        #: None until the reader has read it for the first time.
        self.head: Position | None = None
        self.clock = 0
        self.base = 0
        #: Former terms, and through which arrival each counts.
        self.former: dict[int, int] = {}
        self.withdrawn: dict[str, int] = {}
        self.channels: dict[Key, Channel] = {}
        self.order: deque[tuple[int, int]] = deque()
        self.bytes = 0
        self.streams = 0
        self.without_streams_since = 0.0
        #: When the recent events were last read, by the event loop's clock, and the task that does.
        self.recalled_at = -math.inf
        self.recall: asyncio.Task[None] | None = None

    def standing(self, position: Position, token_hash: str) -> Standing:
        assert self.head is not None
        if position.term != self.head.term and position.arrival > self.former.get(position.term, -1):
            return Standing.OF_ANOTHER_TERM
        if position.arrival > self.head.arrival:
            return Standing.AHEAD
        if position.arrival < self.withdrawn.get(token_hash, 0) <= self.head.arrival:
            return Standing.WITHDRAWN
        return Standing.BEHIND if position.arrival < self.base else Standing.HELD

    def pull(self, keys: Sequence[Key], position: Position, max_events: int, max_bytes: int) -> Batch:
        """Returns the next events after a position that is HELD, at least one if there is any."""
        assert self.head is not None
        if len(keys) > 1:
            return self._pull_merged(keys, position, max_events, max_bytes)
        channel = self.channels.get(keys[0])
        if channel is None or (begin := channel.after(position.arrival)) == len(channel.arrivals):
            return Batch(b"", 0, self.head)
        at = (begin and channel.arrivals[begin - 1], max_events)
        batch = channel.joined.get(at)
        if batch is None:
            end = _end(channel.texts, begin, max_events, max_bytes)
            last = self.head if end == len(channel.texts) else Position(self.head.term, channel.arrivals[end - 1])
            batch = Batch(b"".join(channel.texts[begin:end]), end - begin, last, channel.arrivals[begin])
            if len(channel.joined) >= MAX_JOINED:
                channel.joined.clear()
            channel.joined[at] = batch
        return batch

    def _pull_merged(self, keys: Sequence[Key], position: Position, max_events: int, max_bytes: int) -> Batch:
        assert self.head is not None
        found: list[tuple[int, bytes]] = []
        for key in keys:
            if channel := self.channels.get(key):
                begin = channel.after(position.arrival)
                # One more than fit, which shows that some are left.
                end = begin + max_events + 1
                found += zip(channel.arrivals[begin:end], channel.texts[begin:end], strict=True)
        if not found:
            return Batch(b"", 0, self.head)
        found.sort()
        texts = [text for _, text in found]
        end = _end(texts, 0, max_events, max_bytes)
        last = self.head if end == len(found) else Position(self.head.term, found[end - 1][0])
        return Batch(b"".join(texts[:end]), end, last, found[0][0])

    def wait(self, keys: Iterable[Key], wake: Callable[[], None]) -> None:
        """Calls `wake` once when one of the channels has more, or when positions have to be compared again."""
        for key in keys:
            self.channels.setdefault(key, Channel()).waiting.add(wake)

    def stop_waiting(self, keys: Iterable[Key], wake: Callable[[], None]) -> None:
        for key in keys:
            if channel := self.channels.get(key):
                channel.waiting.discard(wake)
                if not channel.waiting and not channel.arrivals:
                    del self.channels[key]

    def apply(self, update: Update) -> set[Callable[[], None]]:
        """Takes in what was read. Returns whom to wake."""
        woken: set[Callable[[], None]] = set()
        # A Redis that has lost its notes lacks those of before. Streams may still be earlier.
        withdrawn = {**self.withdrawn, **update.withdrawn}
        if update.base is not None or withdrawn != self.withdrawn:
            woken.update(*(channel.waiting for channel in self.channels.values()))
        if update.base is not None:
            # What is held may have been taken back, and what is known of former terms too.
            self.former = {}
            self.forget(max([update.base, *(arrival for arrival, _ in self.order)]))
            self.base = update.base
        self.head, self.clock, self.withdrawn = update.head, update.clock, withdrawn
        self.former |= update.former
        for frame in update.frames:
            size = len(frame.text) + OVERHEAD
            self.order.append((frame.arrival, size))
            self.bytes += size
            for key in frame.keys:
                channel = self.channels.setdefault(key, Channel())
                channel.arrivals.append(frame.arrival)
                channel.texts.append(frame.text)
                channel.joined.clear()
                woken |= channel.waiting
        return woken

    def prepend(self, frames: Sequence[Frame], after: int) -> None:
        """Takes in the events between `after` and `base`. No stream waits for them: those that do are later."""
        sizes = [(frame.arrival, len(frame.text) + OVERHEAD) for frame in frames]
        self.order.extendleft(reversed(sizes))
        self.bytes += sum(size for _, size in sizes)
        self.base = after
        of_keys: dict[Key, list[Frame]] = defaultdict(list)
        for frame in frames:
            for key in frame.keys:
                of_keys[key].append(frame)
        for key, earlier in of_keys.items():
            channel = self.channels.setdefault(key, Channel())
            channel.arrivals[:0] = [frame.arrival for frame in earlier]
            channel.texts[:0] = [frame.text for frame in earlier]
            channel.joined.clear()

    def drop_oldest(self, size: int) -> None:
        """Drops the oldest events, of this many bytes together."""
        dropped = 0
        for arrival, taken in self.order:
            if (dropped := dropped + taken) >= size:
                self.forget(arrival)
                return

    def forget(self, through: int) -> None:
        """Drops all events up to an arrival. A stream at an earlier position is BEHIND from now on."""
        while self.order and self.order[0][0] <= through:
            self.order.popleft()
        self.bytes = sum(size for _, size in self.order)
        self.base = max(self.base, through)
        for key, channel in list(self.channels.items()):
            gone = channel.after(through)
            del channel.arrivals[:gone], channel.texts[:gone]
            channel.joined.clear()
            if not channel.arrivals and not channel.waiting:
                del self.channels[key]


def _end(texts: Sequence[bytes], begin: int, max_events: int, max_bytes: int) -> int:
    """Returns the index behind the last event that fits."""
    size = 0
    end = begin
    last = min(len(texts), begin + max_events)
    while end < last and (size := size + len(texts[end])) <= max_bytes:
        end += 1
    return max(end, begin + 1)


#: What was read of a partition.
Change = tuple[Partition, Update]


class Backlog:
    """The partitions that this process reads."""

    def __init__(self) -> None:
        #: The reader looks at it from its thread.
        self.partitions: dict[int, Partition] = {}

    @property
    def bytes(self) -> int:
        return sum(partition.bytes for partition in self.partitions.values())

    def claim(self, number: int) -> Partition:
        """Returns the partition for one more stream. Call `release` when that stream has ended."""
        partition = self.partitions.setdefault(number, Partition(number))
        partition.streams += 1
        return partition

    def release(self, partition: Partition) -> None:
        partition.streams -= 1
        partition.without_streams_since = time.monotonic()

    def drop_unused(self) -> None:
        """Stops reading the partitions whose streams have ended long ago."""
        long_ago = time.monotonic() - KEPT_WITHOUT_STREAMS
        for number, partition in list(self.partitions.items()):
            if not partition.streams and partition.without_streams_since < long_ago:
                del self.partitions[number]

    def fit(self) -> None:
        """Drops events until the rest fits into MAX_BYTES."""
        while (too_many := self.bytes - MAX_BYTES) > 0:
            # The largest one, so that a busy application does not push out what others need.
            largest = max(self.partitions.values(), key=lambda partition: partition.bytes)
            largest.drop_oldest(max(too_many, largest.bytes // 8))
