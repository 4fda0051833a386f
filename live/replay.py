"""What was stored after a position: the feed says what changed, and the tables have the newest versions.

Documented in docs/live.md.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from itertools import chain, islice

from chatsystem.writelog import feed
from chatsystem.writelog.events import CREATE, to_datetime, to_micros
from chatsystem.writelog.models import DeadEvent, DiscardedEvent
from chatsystem.writelog.positions import Position
from chatsystem.writelog.terms import counts_through
from live.events import LiveEvent, Row, event_of, row_of, show, stored_rows

#: Events of a page, and changed entities that are looked up together for it. The rows of one drain are never split.
PAGE = 500


def check(partition: int, position: Position, term: int, clock: int) -> bool:
    """Returns whether the position is of events that still count. `term` and `clock` are the partition's.

    Asks the database only about a position of a former term.
    """
    if position.term == term:
        return position.arrival <= clock
    through = counts_through(partition, position.term) if position.term < term else None
    return through is not None and position.arrival <= through


def replay(
    partition: int, owns: Callable[[str], bool], chats: frozenset[int] | None, after: int, through: int
) -> Iterator[list[LiveEvent]]:
    """Yields what is stored of an application and arrived after `after`, up to `through`: pages in order of arrival.

    `owns` says whether a token is the application's, and `chats` limits the events to messages of these chats.
    Everything up to `through` must be stored. Raises `feed.Gap`, possibly after some pages, if something may be missing
    or was discarded.
    """
    # A reader at `after` may have shown a dead event that was discarded later.
    gone = DiscardedEvent.objects.filter(partition=partition, arrival__lte=after, withdrawn__gt=after)
    if any(owns(path.partition("/")[0]) for path in gone.values_list("path", flat=True)):
        raise feed.Gap

    def wanted(parent: str) -> bool:
        token, _, chat = parent.partition("/")
        return owns(token) and (chats is None or (chat != "" and int(chat) in chats))

    yield from _windows(partition, after, through, wanted)


def changes_between(partition: int, after: int, through: int) -> int:
    """Returns how many events `fill` yields, or somewhat more: entities that changed again are counted again."""
    changes = feed.changes(partition, after, through)
    return sum(len(numbers) for change in changes for numbers in change.numbers.values())


def fill(partition: int, after: int, through: int) -> Iterator[LiveEvent]:
    """Yields the events that `replay` yields, of all applications of the partition."""
    return chain.from_iterable(_windows(partition, after, through, lambda parent: True))


def _windows(partition: int, after: int, through: int, wanted: Callable[[str], bool]) -> Iterator[list[LiveEvent]]:
    """Walks along the chain of the feed. An entity that changes in several windows appears in the last one of them."""
    changed: dict[str, set[int]] = defaultdict(set)
    begin = after
    for change in feed.changes(partition, after, through):
        for parent, numbers in change.numbers.items():
            if wanted(parent):
                changed[parent].update(numbers)
        end = min(change.through, through)
        if end == through or sum(map(len, changed.values())) >= PAGE:
            events = iter(_newest(partition, changed, begin, end))
            while page := list(islice(events, PAGE)):
                yield page
            changed.clear()
            begin = end


def _newest(partition: int, changed: Mapping[str, set[int]], after: int, through: int) -> list[LiveEvent]:
    """Returns the events of these entities whose newest version arrived in between, in order of arrival."""
    if not changed:
        return []
    # The dead events first. One that is stored meanwhile is then found twice instead of never.
    dead = _dead(partition, changed, after, through)
    rows: dict[tuple[str, int], Row] = {(parent, row.number): row for parent, row in stored_rows(changed)}
    for parent, number in dead:
        arrival, text, created = dead[parent, number]
        row = rows.get((parent, number))
        if row is None and created:
            row = row_of(f"{parent}/{number}")(number, to_datetime(created), to_datetime(created))
        if row is not None and to_micros(row.last_request_time) <= arrival:
            row.last_request_time = to_datetime(arrival)
            show(row, text)
            rows[parent, number] = row
    events = [event_of(parent, row) for (parent, _), row in rows.items()]
    return sorted(event for event in events if after < event.arrival <= through)


def _dead(
    partition: int, changed: Mapping[str, set[int]], after: int, through: int
) -> dict[tuple[str, int], tuple[int, str, int]]:
    """Returns the newest dead event of each entity: its arrival, its text, and the arrival of a dead create or 0."""
    found: dict[tuple[str, int], tuple[int, str, int]] = {}
    events = DeadEvent.objects.filter(partition=partition)
    paths = set(events.filter(arrival__gt=after, arrival__lte=through).values_list("path", flat=True))
    if not paths:
        return found
    in_order = events.filter(path__in=paths, arrival__lte=through).order_by("arrival")
    for arrival, verb, path, text in in_order.values_list("arrival", "verb", "path", "text"):
        parent, _, name = path.rpartition("/")
        if name.isdecimal() and int(name) in changed.get(parent, ()):
            created = arrival if verb == CREATE else found.get((parent, int(name)), (0, "", 0))[2]
            found[parent, int(name)] = (arrival, text, created)
    return found
