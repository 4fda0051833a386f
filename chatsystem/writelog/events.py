"""What the log holds, and what a batch of it comes to. Documented in docs/write-log.md."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

CREATE = "create"
UPDATE = "update"


class PoisonEvent(ValueError):
    """An event that can never be stored as it stands: its parent or its row does not exist, or its path is no path."""


class Event(NamedTuple):
    """One acknowledged write. `text` is the whole new name, title or body."""

    arrival: int
    verb: str
    path: str
    text: str


class Change(NamedTuple):
    """What a batch makes of one entity: `created` is the arrival of its create, None when it was stored before."""

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


def depth(path: str) -> int:
    """0 for an application, 1 for a chat, 2 for a message."""
    return path.count("/")


def fold(events: Iterable[Event]) -> list[Change]:
    """The events' outcome, one change an entity, in order of first arrival. Of two writes the later arrival wins."""
    changes: dict[str, Change] = {}
    for arrival, verb, path, text in events:
        earlier = changes.get(path)
        created = arrival if verb == CREATE else (earlier.created if earlier else None)
        if earlier and earlier.arrival > arrival:
            changes[path] = Change(path, created or earlier.created, earlier.arrival, earlier.text)
        else:
            changes[path] = Change(path, created, arrival, text)
    return list(changes.values())
