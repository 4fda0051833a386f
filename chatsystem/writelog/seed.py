"""Seeding: after which numbers a Redis process goes on. Documented in docs/write-log.md."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping

from chatsystem.writelog import log
from chatsystem.writelog.drain import drain
from chatsystem.writelog.events import CREATE
from chatsystem.writelog.models import DeadEvent, DiscardedEvent
from chatsystem.writelog.partitions import locked

logger = logging.getLogger(__name__)


def pass_fence(partition: int) -> None:
    """Has the numbers of a Redis process that nobody knows yet compared with the database.

    All of them count as they are unless it has lost something; then each parent's is to be seeded.
    """
    with locked(partition) as row:
        assert row is not None
        # Held until Redis has decided: a drain could store meanwhile what this Redis has lost.
        kept = log.pass_fence(partition, row.drained_through)
    if not kept and row.drained_through:
        logger.warning("partition %d: the state Redis has lost what the database holds: numbers are seeded", partition)


def seed(partition: int, last_numbers: Mapping[str, Callable[[], int | None]]) -> None:
    """Seeds each parent path with the last number that the database holds of its children.

    Raises `UnknownEntity` for a parent that the database does not hold either; then no key has been made.
    """
    # What the log still holds was numbered before: stored first, it counts. Drained on its own, so that its pending
    # view stays until it is committed.
    drain(partition)
    with locked(partition):
        # Held until the numbers are in place: no drain can store a higher number meanwhile, and no other process can
        # have given one, since it would have had to seed first.
        for parent, last_number in last_numbers.items():
            number = last_number()
            if number is None:
                raise log.UnknownEntity(parent)
            log.seed(partition, parent, max(number, _last_dead(partition, parent)))


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
