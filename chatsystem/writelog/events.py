"""Events of the log, their arrival timestamps, and the outcome of a batch. Documented in docs/write-log.md.

An arrival is microseconds since 1970 by the clock of Redis. It is at once an event's identity, its place in the log and
its version.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta, timezone
from typing import NamedTuple

CREATE = "create"
UPDATE = "update"

UNIX_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
MICROSECOND = timedelta(microseconds=1)


class PoisonEvent(ValueError):
    """The event can never be stored as it is: its parent or its row does not exist, or its path is malformed."""


class Event(NamedTuple):
    """One acknowledged write. `text` is the whole new name, title or body."""

    arrival: int
    verb: str
    path: str
    text: str

    @property
    def size(self) -> int:
        """The UTF-8 bytes of the text."""
        return len(self.text) if self.text.isascii() else len(self.text.encode())


class Change(NamedTuple):
    """The outcome of a batch for one entity. `created` is the arrival of its create; None for a stored entity."""

    path: str
    created: int | None
    arrival: int
    text: str

    @property
    def parent(self) -> str:
        return self.path.rpartition("/")[0]

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]

    @property
    def number(self) -> int:
        return int(self.name)


def to_datetime(arrival: int) -> datetime:
    return UNIX_EPOCH + arrival * MICROSECOND


def to_micros(moment: datetime) -> int:
    """Returns the exact microseconds. A float of seconds would lose the last digit."""
    return (moment - UNIX_EPOCH) // MICROSECOND


def depth(path: str) -> int:
    """Returns 0 for an application, 1 for a chat, 2 for a message."""
    return path.count("/")


def fold(events: Iterable[Event]) -> list[Change]:
    """Returns one change per entity, in order of first arrival. Of two writes, the later arrival wins."""
    changes: dict[str, Change] = {}
    for arrival, verb, path, text in events:
        earlier = changes.get(path)
        created = arrival if verb == CREATE else (earlier.created if earlier else None)
        if earlier and earlier.arrival > arrival:
            changes[path] = Change(path, created or earlier.created, earlier.arrival, earlier.text)
        else:
            changes[path] = Change(path, created, arrival, text)
    return list(changes.values())
