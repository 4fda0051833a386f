"""A database that is older than it was: a restored dump, a replica that lagged, another database altogether.

What a drain has committed has left the log, so an older database has lost it, and to go on would hide that. Redis
remembers how far the database was (`{p}:stored`). A partition whose row is behind that is halted: its writes and reads
are 503, its log waits. It goes on by itself when the database has been brought forward, or when somebody accepts the
loss. Documented in docs/write-log.md.
"""

from __future__ import annotations

import logging

from chatsystem.writelog import log
from chatsystem.writelog.models import Partition

logger = logging.getLogger(__name__)


def refuse(row: Partition) -> None:
    """Halts the partition and raises `DatabaseBehind` when the database is older than it was. `row` is locked."""
    if log.stored_through(row.pk) <= row.drained_through:
        return
    # Whoever was stopped between the two lines above may have lost its session, the lock and the truth of `row` with
    # it. Asked again, it is told so.
    row.refresh_from_db()
    log.halt(row.pk)
    logger.error("partition %d is halted: the database is older than it was (docs/runbook.md)", row.pk)
    raise log.DatabaseBehind


def look() -> list[int]:
    """The partitions whose row is older than what Redis remembers."""
    # In this order: a drain commits first and tells Redis afterwards.
    remembered = log.all_stored_through()
    stored = dict(Partition.objects.values_list("pk", "drained_through"))
    return [partition for partition, through in remembered.items() if through > stored.get(partition, 0)]


def halt_or_resume() -> None:
    """Halts the partitions that are behind, and lets those go on that no longer are."""
    before = set(log.halted())
    now = set(look())
    for partition in now - before:
        log.halt(partition)
    for partition in before - now:
        log.resume(partition)
    if now:
        logger.error("%d partitions are halted: the database is older than it was (docs/runbook.md)", len(now))
    elif before:
        logger.warning("the database is as new as it was again: %d partitions go on", len(before))
