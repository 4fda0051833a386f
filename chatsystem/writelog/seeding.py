"""Seeds numbers: tells a Redis that lost them after which number to go on. Documented in docs/write-log.md."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from chatsystem.writelog.drain import drain
from chatsystem.writelog.events import CREATE
from chatsystem.writelog.exceptions import UnknownEntity
from chatsystem.writelog.keys import Keys
from chatsystem.writelog.models import DeadEvent, DiscardedEvent
from chatsystem.writelog.partitions import locked
from chatsystem.writelog.redis_guards import fence_of
from chatsystem.writelog.scripts import run


def seed(partition: int, last_numbers: Mapping[str, Callable[[], int | None]]) -> None:
    """Seeds each parent path with the highest number that the database holds among its children.

    The caller holds the application's lock, so that concurrent requests of an application seed once. That lock only
    saves work: the row lock taken here keeps the numbers right.

    Raises `UnknownEntity` for a parent that the database does not hold either. No key has been made then.
    """
    # The events in the log have numbers already: stored first, they count. This drain has its own transaction, so that
    # the pending view keeps the events until they are committed.
    drain([partition])
    with locked(partition):
        fence = fence_of(partition)
        # The row lock is held until the numbers are in Redis. No drain can store a higher number meanwhile. No other
        # process can have given one, since it would have had to seed first.
        for parent, last_number in last_numbers.items():
            number = last_number()
            if number is None:
                raise UnknownEntity(parent)
            set_last_number(partition, parent, max(number, _last_dead(partition, parent)), fence)


def set_last_number(partition: int, parent: str, last_number: int, fence: str) -> None:
    """Lets append number the children of `parent` after `last_number`. The caller holds the partition's row lock.

    Does nothing if the fence has changed since the number was read.
    """
    keys = Keys(partition)
    run(partition, "seed", [keys.numbers, keys.fence], [parent, last_number, fence])


def _last_dead(partition: int, parent: str) -> int:
    """Returns the highest number among the parent's dead creates. Such a number is taken, though no row holds it."""
    paths = [
        path
        for model in (DeadEvent, DiscardedEvent)
        for path in model._default_manager.filter(
            partition=partition, verb=CREATE, path__startswith=f"{parent}/"
        ).values_list("path", flat=True)
    ]
    names = (path.removeprefix(f"{parent}/") for path in paths)
    return max((int(name) for name in names if "/" not in name), default=0)
