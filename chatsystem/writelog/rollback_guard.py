"""Detects a database that was rolled back: a restored dump, a lagging replica, or another database altogether.

Committed events have left the log, so an older database has lost them. Going on would hide the loss. Redis remembers
how far the database was (`{p}:stored`). A partition whose row is older is halted: its reads and writes are 503 and its
log waits. It resumes by itself once the database is restored to that point, or once an operator accepts the loss.
Documented in docs/write-log.md.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from chatsystem.writelog.keys import BEHIND, Keys
from chatsystem.writelog.models import Partition
from chatsystem.writelog.redis_client import available, client, of_each
from chatsystem.writelog.scripts import run

logger = logging.getLogger(__name__)


def is_behind(row: Partition, stored_through: int) -> bool:
    """Returns whether the database is older than it was, and halts the partition then.

    `stored_through` was read from Redis before the row was read from the database.
    """
    if stored_through <= row.drained_through:
        return False
    if halt(row.pk):
        logger.error("partition %d is halted: the database is older than it was (docs/runbook.md)", row.pk)
    return True


def partitions_behind(partitions: Sequence[int]) -> list[int]:
    """Returns those of one Redis's partitions whose row is older than what Redis remembers."""
    # In this order: a drain commits first and tells Redis afterwards.
    remembered = all_stored_through(partitions)
    stored = dict(Partition.objects.values_list("pk", "drained_through"))
    return [partition for partition, through in remembered.items() if through > stored.get(partition, 0)]


def halt_or_resume(partitions: Sequence[int]) -> None:
    """Halts those of one Redis's partitions that are behind and resumes those that no longer are."""
    before = set(halted(partitions))
    now = set(partitions_behind(partitions))
    for partition in now - before:
        halt(partition)
    for partition in before - now:
        resume(partition)
    if now:
        logger.error("%d partitions are halted: the database is older than it was (docs/runbook.md)", len(now))
    elif before:
        logger.warning("the database is up to date again: %d partitions resume", len(before))


def stored_through(partition: int) -> int:
    """Returns the arrival of the newest event that a database has committed, as far as this Redis knows."""
    return all_stored_through([partition])[partition]


def all_stored_through(partitions: Sequence[int]) -> dict[int, int]:
    """Returns `stored_through` of each of one Redis's partitions."""
    return {partition: int(value or 0) for partition, value in of_each(partitions, "get", "stored").items()}


def halt(partition: int) -> bool:
    """Stops all reads and writes of the partition. Returns whether it was not halted before."""
    with available():
        return bool(client(partition).hset(Keys(partition).pending, BEHIND, "1"))


def resume(partition: int) -> None:
    """Reverts `halt`."""
    with available():
        client(partition).hdel(Keys(partition).pending, BEHIND)


def halted(partitions: Sequence[int]) -> list[int]:
    """Returns those of one Redis's partitions that are halted."""
    return [partition for partition, halted in of_each(partitions, "hexists", "pending", BEHIND).items() if halted]


def accept_database(partition: int, drained_through: int) -> None:
    """Accepts the database as it is: what it lost stays lost. The caller holds the partition's row lock."""
    keys = Keys(partition)
    run(partition, "accept_database", [keys.fence, keys.pending, keys.stored], [drained_through])
