"""Dead events: acknowledged, and refused by the database. Documented in docs/write-log.md.

They keep their entry in the pending view, so that reads go on to show what was acknowledged.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from django.db.models import QuerySet

from chatsystem.writelog import log
from chatsystem.writelog.drain import store
from chatsystem.writelog.events import CREATE, Event
from chatsystem.writelog.models import DeadEvent, DiscardedEvent
from chatsystem.writelog.partitions import locked

STORED = "stored"
REFUSED = "refused again"
GONE = "dealt with by somebody else"


def replay(dead: DeadEvent) -> bool:
    """Stores the event after all; False when the database refuses it again, which renews its error.

    Raises DeadEvent.DoesNotExist when somebody else has replayed or discarded it meanwhile.
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
    # A crash between the two leaves an entry in the pending view that hides nothing, since the row is as new, and goes
    # with the entity's next update. The log has moved on long ago: through 0, nothing of it is removed.
    log.remove(dead.partition_id, 0, [event])
    return True


def replay_each(events: Iterable[DeadEvent]) -> Iterator[str]:
    """Replays them one by one, and tells what became of each: STORED, REFUSED or GONE."""
    for event in events:
        try:
            yield STORED if replay(event) else REFUSED
        except DeadEvent.DoesNotExist:
            yield GONE


def oldest_first(events: QuerySet[DeadEvent]) -> QuerySet[DeadEvent]:
    """The order to replay in: an update needs the row that its create makes, a message needs its chat."""
    return events.order_by("partition", "arrival")


def discard(dead: DeadEvent, by: str, reason: str) -> None:
    """Gives the event up for good: it is the one way in which something acknowledged is lost, and a person decides it.

    What it was, who gave it up and why is kept as a `DiscardedEvent`.
    Raises DeadEvent.DoesNotExist when somebody else has replayed or discarded it meanwhile.
    """
    with locked(dead.partition_id):
        dead = DeadEvent.objects.get(pk=dead.pk)
        DiscardedEvent.objects.create(
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
        # Under the lock, so that no replay changes what is left; before the commit, since nothing would come back for a
        # pending entry whose dead event is gone.
        log.withdraw(dead.partition_id, dead.path, dead.arrival, dead.verb, instead=_newest_left(dead))


def _newest_left(dead: DeadEvent) -> log.Pending | None:
    """What reads show of the entity without this event, unless its row in the database is newer."""
    left = list(DeadEvent.objects.filter(partition=dead.partition_id, path=dead.path).order_by("arrival"))
    if not left:
        return None
    created = next((event.arrival for event in left if event.verb == CREATE), None)
    return log.Pending(left[-1].arrival, created, left[-1].text)
