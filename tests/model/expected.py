"""The model of the write path: what must be there. Documented in docs/reliability.md."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from chatsystem.writelog.events import CREATE, Event, depth
from chatsystem.writelog.keys import partition_of


@dataclass(frozen=True)
class Entity:
    """An entity as a reader sees it."""

    created: int
    arrival: int
    text: str


@dataclass
class Expected:
    """The acknowledged events of each path, in order of arrival."""

    events: dict[str, list[Event]] = field(default_factory=dict)

    def acknowledge(self, event: Event) -> None:
        """Checks that the event comes after all others of its partition, and its number after all of its siblings."""
        newest = self.newest(partition_of(token_of(event.path)))
        assert event.arrival > newest, f"{event} did not arrive after {newest}"
        if event.verb == CREATE:
            if parent := parent_of(event.path):
                given = len(self.children(parent))
                assert event.path == f"{parent}/{given + 1}", f"{given} are there, and the next is {event.path}"
            assert event.path not in self.events, f"{event.path} was given twice"
        self.events.setdefault(event.path, []).append(event)

    def keep(self, kept: Callable[[Event], bool]) -> None:
        """Forgets the other events: only a Redis that was lost held them."""
        left = ((path, [event for event in events if kept(event)]) for path, events in self.events.items())
        self.events = {path: events for path, events in left if events}

    def entities(self, shown: Callable[[Event], bool]) -> dict[str, Entity]:
        """Returns the outcome of the shown events. An entity without its create does not exist."""
        found = {}
        for path, events in self.events.items():
            some = [event for event in events if shown(event)]
            if some and some[0].verb == CREATE:
                found[path] = Entity(some[0].arrival, some[-1].arrival, some[-1].text)
        return found

    def __iter__(self) -> Iterator[Event]:
        for events in self.events.values():
            yield from events

    def newest(self, partition: int) -> int:
        arrivals = [e.arrival for e in self if partition_of(token_of(e.path)) == partition]
        return max(arrivals, default=0)

    def children(self, parent: str) -> list[str]:
        return [path for path in self.events if parent_of(path) == parent and path != parent]

    def paths(self, level: int) -> list[str]:
        return [path for path in self.events if depth(path) == level]


def by_parent(entities: dict[str, Entity]) -> dict[str, list[tuple[int, Entity]]]:
    """Maps each parent to its children, as numbers and entities, ascending."""
    found: dict[str, list[tuple[int, Entity]]] = defaultdict(list)
    for path, entity in entities.items():
        if parent := parent_of(path):
            found[parent].append((int(path.rpartition("/")[2]), entity))
    return {parent: sorted(children, key=lambda child: child[0]) for parent, children in found.items()}


def parent_of(path: str) -> str:
    return path.rpartition("/")[0]


def token_of(path: str) -> str:
    return path.partition("/")[0]
