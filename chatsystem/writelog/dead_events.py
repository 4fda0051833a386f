"""Dead events, the dead letters of the write log: acknowledged events that the database refused.

A dead event stays in the pending view, so reads still show the acknowledged text. Documented in docs/write-log.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from django.db.models import QuerySet

from chatsystem.writelog import stream
from chatsystem.writelog.drain import store
from chatsystem.writelog.events import CREATE, Event
from chatsystem.writelog.feed import RETENTION
from chatsystem.writelog.keys import Keys
from chatsystem.writelog.models import DeadEvent, DiscardedEvent
from chatsystem.writelog.partitions import locked
from chatsystem.writelog.reads import Pending
from chatsystem.writelog.scripts import run

STORED = "stored"
REFUSED = "refused again"
GONE = "handled by somebody else"


def replay(dead: DeadEvent) -> bool:
    """Stores the event. Returns False and updates its error if the database refuses it again.

    Raises DeadEvent.DoesNotExist if it was replayed or discarded meanwhile.
    """
    with locked(dead.partition_id):
        dead = DeadEvent.objects.get(pk=dead.pk)
        event = Event(dead.arrival, dead.verb, dead.path, dead.text)
        refused = store([event])
        if refused:
            _, error = refused[0]
            dead.error = f"{type(error).__name__}: {error}"
            dead.save(update_fields=["error"])
            return False
        dead.delete()
    # A crash before this line leaves an entry in the pending view. It hides nothing, since the row is as new, and the
    # entity's next update removes it. The event left the log long ago: `through` 0 removes nothing from there.
    stream.remove([stream.Removal(dead.partition_id, 0, [event])])
    return True


def replay_each(events: Iterable[DeadEvent]) -> Iterator[str]:
    """Replays events one by one and yields the outcome of each: STORED, REFUSED or GONE."""
    for event in events:
        try:
            yield STORED if replay(event) else REFUSED
        except DeadEvent.DoesNotExist:
            yield GONE


def oldest_first(events: QuerySet[DeadEvent]) -> QuerySet[DeadEvent]:
    """Orders events for a replay: an update needs the row of its create, and a message needs its chat."""
    return events.order_by("partition", "arrival")


def discard(dead: DeadEvent, by: str, reason: str) -> None:
    """Discards the event for good. This is the only way to lose an acknowledged write, and a person decides it.

    A `DiscardedEvent` records what it was, who discarded it and why.
    Raises DeadEvent.DoesNotExist if it was replayed or discarded meanwhile.
    """
    with locked(dead.partition_id) as row:
        dead = DeadEvent.objects.get(pk=dead.pk)
        discarded = DiscardedEvent(
            partition=dead.partition,
            arrival=dead.arrival,
            verb=dead.verb,
            path=dead.path,
            text=dead.text,
            error=dead.error,
            died_at=dead.died_at,
            discarded_by=by,
            reason=reason,
        )
        dead.delete()
        # Under the lock, so that no replay changes what is left. Before the commit, since nothing would clean up the
        # pending entry of a dead event that is gone.
        instead = _newest_left(dead)
        withdrawn = withdraw(dead.partition_id, dead.path, dead.arrival, dead.verb, instead)
        # A Redis that has lost its clock goes on behind what is stored.
        discarded.withdrawn = max(withdrawn, row.drained_through + 1)
        discarded.save(force_insert=True)


def withdraw(partition: int, path: str, arrival: int, verb: str, instead: Pending | None) -> int:
    """Removes a discarded event from the pending view. Reads then show `instead`: what is left of the entity.

    Returns the clock of the partition afterwards. A reader at an earlier position may have shown the event.
    """
    keys = Keys(partition)
    arguments = [path, arrival, "" if instead is None else str(instead), verb, RETENTION]
    return int(run(partition, "withdraw", [keys.numbers, keys.pending, keys.clock, keys.withdrawn], arguments))


def _newest_left(dead: DeadEvent) -> Pending | None:
    """Returns what reads show of the entity without this event, unless its row is newer."""
    left = list(DeadEvent.objects.filter(partition=dead.partition_id, path=dead.path).order_by("arrival"))
    if not left:
        return None
    created = next((event.arrival for event in left if event.verb == CREATE), None)
    return Pending(left[-1].arrival, created, left[-1].text)
