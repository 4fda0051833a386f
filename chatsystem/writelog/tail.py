"""The log as live readers follow it: the events that the database may not have yet. Documented in docs/live.md.

One Redis must serve all partitions of a call, as in stream.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from django.conf import settings

from chatsystem.writelog import ownership
from chatsystem.writelog.exceptions import LogUnavailable
from chatsystem.writelog.keys import Keys
from chatsystem.writelog.positions import Position
from chatsystem.writelog.redis_client import (
    ask_all,
    available,
    check_flags,
    check_replicas,
    group_of,
    pooled_connection,
    wait_command,
)
from chatsystem.writelog.scripts import evaluate_each

#: Events and bytes of text of one partition that one call reads.
EVENTS, BYTES = 500, 1_000_000


class NotConfirmed(LogUnavailable):
    """The fence was not passed, or the lease has ended."""


class Entry(NamedTuple):
    """An event of the log. `created` is the arrival of its entity's create; None if only the database knows it."""

    arrival: int
    verb: str
    path: str
    text: str
    created: int | None


class Tail(NamedTuple):
    """The end of a partition's log."""

    term: int
    #: Arrival of the newest event.
    clock: int
    #: The database has all events up to this arrival, and `entries` none of them. A reader that has seen less than this
    #: takes what lies between from the feed.
    stored: int
    #: `entries` are all later events up to this arrival: up to the clock, unless there were too many for one call.
    through: int
    #: Token → the clock after one of the application's dead events was discarded. A reader at an earlier position may
    #: have shown that event.
    withdrawn: dict[str, int]
    entries: list[Entry]


def heads(partitions: Sequence[int]) -> dict[int, Position]:
    """Returns each partition's term, and the arrival of its newest event. One moves with all that a reader could see.

    A restart begins a term and may leave the arrival as it was.
    """
    keys = [Keys(partition) for partition in partitions]
    with available(), pooled_connection(partitions[0]) as connection:
        # Bypasses redis-py's client, as `evaluate` does: readers call this fifty times a second.
        found = ask_all(connection, [("GET", key) for each in keys for key in (each.term, each.clock)])
    numbers = [int(number or 0) for number in found]
    ends = map(Position, numbers[::2], numbers[1::2])
    return dict(zip(partitions, ends, strict=True))


def tails(after: Mapping[int, int]) -> dict[int, Tail | LogUnavailable]:
    """Returns the end of each partition's log: events with later arrivals than `after` says. Or why it cannot be read.

    Waits until the replicas have what it returns. Raises `Unreplicated` if too few of them do.
    """
    found = _tails(after)
    # As append does: an idle partition's fence waits for the sweep, and no lease is renewed while no worker runs.
    if lacking := {partition: after[partition] for partition, tail in found.items() if isinstance(tail, NotConfirmed)}:
        try:
            ownership.keep(group_of(min(lacking)))
            found |= _tails(lacking)
        except LogUnavailable as error:
            found |= dict.fromkeys(lacking, error)
    return found


def _tails(after: Mapping[int, int]) -> dict[int, Tail | LogUnavailable]:
    calls: dict[int, tuple[list[str], list[Any]]] = {}
    for partition, arrival in after.items():
        keys = Keys(partition)
        names = [keys.log, keys.pending, keys.clock, keys.fence, keys.lease, keys.stored, keys.term, keys.withdrawn]
        calls[partition] = (names, [arrival, EVENTS, BYTES])
    first = next(iter(after))
    with available(), pooled_connection(first) as connection:
        found = evaluate_each(connection, "tail", calls)
        if settings.REDIS_REPLICAS:
            # Written after the read: a replica that has this probe also has what was read. WAIT counts the writes of
            # its own connection.
            check_replicas(ask_all(connection, [("SET", Keys(first).probe, "1", "PX", 1000), wait_command()]))
    return {partition: _parsed(answer) for partition, answer in found.items()}


def _parsed(answer: Sequence[Any]) -> Tail | LogUnavailable:
    status, *rest = answer
    try:
        check_flags(behind=status == "behind", superseded=status == "superseded")
    except LogUnavailable as error:
        return error
    if status != "ok":
        return NotConfirmed("the state Redis has not been confirmed as the owner")
    term, clock, stored, through, withdrawn, entries = rest
    noted = {token: int(at) for token, at in zip(withdrawn[::2], withdrawn[1::2], strict=True)}
    return Tail(int(term), int(clock), int(stored), int(through), noted, [_entry(*entry) for entry in entries])


def _entry(arrival: str, verb: str, path: str, text: str, created: str) -> Entry:
    return Entry(int(arrival), verb, path, text, None if created == "-" else int(created))
