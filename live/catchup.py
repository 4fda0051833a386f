"""Brings a stream from an old position to what its process holds: the feed first, then the log.

Each step reads the end of the log first. It says through which arrival the database has everything. Up to there the
feed proves that nothing is missing, and the log has the rest: the two are disjoint and complete.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from chatsystem.writelog.exceptions import LogUnavailable
from chatsystem.writelog.feed import Gap
from chatsystem.writelog.models import DiscardedEvent
from chatsystem.writelog.positions import Position
from chatsystem.writelog.tail import Tail, tails
from live.backlog import Frame, Key
from live.events import events_of
from live.frames import frames_of
from live.replay import changes_between, check, fill, replay
from live.tickets import token_hash

#: Events that `recent` returns at most: reading them takes two seconds.
MAX_RECENT = 20_000


class Subject(NamedTuple):
    """Whose events a stream shows."""

    partition: int
    token_hash: str
    #: The chats' numbers; None for the whole application.
    chats: frozenset[int] | None

    @property
    def keys(self) -> list[Key]:
        """The channels of the backlog."""
        return [(self.token_hash, None)] if self.chats is None else [(self.token_hash, chat) for chat in self.chats]

    def of_those(self, frames: Iterable[Frame]) -> list[Frame]:
        wanted = set(self.keys)
        return [frame for frame in frames if not wanted.isdisjoint(frame.keys)]

    def owns(self, token: str) -> bool:
        return token_hash(token) == self.token_hash


class Page(NamedTuple):
    """Some of the events after a position, and the position after them."""

    frames: list[Frame]
    position: Position

    def pieces(self, max_events: int, max_bytes: int) -> Iterator[tuple[list[bytes], Position]]:
        """Yields the page in parts that are not too large to be written at once."""
        texts: list[bytes] = []
        size = 0
        for frame in self.frames:
            texts.append(frame.text)
            size += len(frame.text)
            if len(texts) == max_events or size >= max_bytes:
                yield texts, Position(self.position.term, frame.arrival)
                texts, size = [], 0
        if texts:
            yield texts, self.position


class TooMuch(Exception):
    """More was written lately than a process takes in at once."""


class TakenBack(Exception):
    """Events after the position are missing, or it is of events that were taken back: the stream is reset."""


def pages(subject: Subject, position: Position) -> Iterator[Page]:
    """Yields what follows the position, without end: the caller stops at what its process holds.

    Raises `TakenBack`, `LogUnavailable`, or an error of the database. Blocks: call it in a thread.
    """
    while True:
        tail = tails({subject.partition: position.arrival})[subject.partition]
        if isinstance(tail, LogUnavailable):
            raise tail
        if not check(subject.partition, position, tail.term, tail.clock) or _withdrawn(subject, position, tail):
            raise TakenBack
        if tail.stored > position.arrival:
            yield from _stored(subject, position, tail)
        entries = [entry for entry in tail.entries if subject.owns(entry.path.partition("/")[0])]
        frames = subject.of_those(frames_of(tail.term, events_of(entries)))
        position = Position(tail.term, max(tail.through, tail.stored))
        yield Page(frames, position)


def recent(partition: int, term: int, after: int, base: int) -> list[Frame]:
    """Returns the events of all applications between two arrivals, for a process that holds all events after `base`.

    Raises `TooMuch`, and what `pages` raises. Blocks: call it in a thread.
    """
    if DiscardedEvent.objects.filter(partition=partition, withdrawn__gt=after).exists():
        # Each stream has to look whether it has shown it.
        raise TakenBack
    frames: list[Frame] = []
    while after < base:
        tail = tails({partition: after})[partition]
        if isinstance(tail, LogUnavailable):
            raise tail
        if tail.term != term:
            raise TakenBack
        through = min(tail.stored, base)
        try:
            # The feed knows how many they are before anyone has read them.
            if len(frames) + changes_between(partition, after, through) > MAX_RECENT:
                raise TooMuch
            stored = fill(partition, after, through)
            entries = [entry for entry in tail.entries if entry.arrival <= base]
            frames += frames_of(term, [*stored, *events_of(entries)])
        except Gap:
            raise TakenBack from None
        after = max(tail.through, tail.stored)
    return frames


def _stored(subject: Subject, position: Position, tail: Tail) -> Iterator[Page]:
    """Yields what the database has after the position."""
    try:
        for events in replay(subject.partition, subject.owns, subject.chats, position.arrival, tail.stored):
            yield Page(frames_of(tail.term, events), Position(tail.term, events[-1].arrival))
    except Gap:
        raise TakenBack from None


def _withdrawn(subject: Subject, position: Position, tail: Tail) -> bool:
    return any(arrival > position.arrival and subject.owns(token) for token, arrival in tail.withdrawn.items())
