"""Seeding: after which numbers a Redis process goes on. Documented in docs/write-log.md."""

from __future__ import annotations

from collections.abc import Callable

from chatsystem.writelog import log
from chatsystem.writelog.drain import drain
from chatsystem.writelog.keys import partition_of
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
            log.seed(token, parent, number, row.drained_through)
