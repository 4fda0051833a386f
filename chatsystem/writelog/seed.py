"""Seeding: after which numbers a Redis process goes on. Documented in docs/write-log.md."""

from __future__ import annotations

from collections.abc import Callable

from chatsystem.writelog import log
from chatsystem.writelog.drain import drain
from chatsystem.writelog.events import CREATE
from chatsystem.writelog.keys import partition_of
from chatsystem.writelog.models import DeadEvent, DiscardedEvent
from chatsystem.writelog.partitions import locked


def seed(token: str, last_numbers: dict[str, Callable[[], int | None]]) -> None:
    """Seeds each parent path with the last number that the database holds of its children.

    Raises `UnknownEntity` for a parent that the database does not hold either; then no key has been made.
    """
    partition = partition_of(token)
    # What the log still holds was numbered before: stored first, it counts. Drained on its own, so that its pending
    # view stays until it is committed.
    drain(partition)
    with locked(partition) as row:
        assert row is not None
        # Held until the numbers are in place: no drain can store a higher number meanwhile, and no other process can
        # have given one, since it would have had to seed first.
        for parent, last_number in last_numbers.items():
            number = last_number()
            if number is None:
                raise log.UnknownEntity(parent)
            log.seed(token, parent, max(number, _last_dead(partition, parent)), row.drained_through)


def _last_dead(partition: int, parent: str) -> int:
    """The highest number that a create was acknowledged under which died: it is given, though no row holds it."""
    paths = [
        path
        for model in (DeadEvent, DiscardedEvent)
        for path in model._default_manager.filter(
            partition=partition, verb=CREATE, path__startswith=f"{parent}/"
        ).values_list("path", flat=True)
    ]
    names = (path.removeprefix(f"{parent}/") for path in paths)
    return max((int(name) for name in names if "/" not in name), default=0)
