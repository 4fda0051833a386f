"""The row locks of partitions: only their holder may store or seed. Documented in docs/write-log.md."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from django.db import connection, transaction

from chatsystem import file_lock
from chatsystem.writelog import rollback_guard
from chatsystem.writelog.exceptions import DatabaseBehind
from chatsystem.writelog.models import Partition


@contextmanager
def locked(partition: int) -> Iterator[Partition]:
    """Opens a transaction that locks the partition's row, like `locked_together`. Waits for the lock."""
    with locked_together([partition]) as [row]:
        yield row


@contextmanager
def locked_together(partitions: Sequence[int], *, skip: bool = False) -> Iterator[list[Partition]]:
    """Opens a transaction that locks the rows of one Redis's partitions until it ends.

    With `skip`, leaves out partitions that another process has locked. SQLite has no row locks; there the transaction
    itself (BEGIN IMMEDIATE) is the lock of all, and with `skip` it yields no rows while another worker's drain writes.

    Halts a partition whose row is older than what was stored, and leaves it out: nothing may be done on such a
    database. Raises `DatabaseBehind` if no other is left.

    Durable: it refuses to run inside another transaction, since events would leave the log before that one commits.
    """
    with _may_write(skip) as may_write:
        if not may_write:
            yield []
            return
        # Read before the rows, because a drain commits first and tells Redis later. The locks do not stop a drain on
        # another node of a Galera cluster, or one that took over while this process stood still.
        stored_through = rollback_guard.all_stored_through(partitions)
        with transaction.atomic(durable=True):
            # In one order everywhere, so that no two processes wait for each other.
            found = Partition.objects.select_for_update(skip_locked=skip).filter(pk__in=partitions).order_by("pk")
            rows = list(found)
            current = [row for row in rows if not rollback_guard.is_behind(row, stored_through[row.pk])]
            if not current and (rows or not skip):
                raise DatabaseBehind
            yield current


@contextmanager
def _may_write(skip: bool) -> Iterator[bool]:
    """Tells whether the block may begin a transaction now. With `skip`, not while another drain writes to SQLite.

    SQLite has one writer. With five workers, drains waited up to 5.6 s for each other, and each kept a process busy.
    """
    if connection.vendor != "sqlite" or not skip:
        yield True
        return
    # The kernel releases this lock when its holder is killed.
    with file_lock.held(Path(f"{connection.settings_dict['NAME']}-drain")) as taken:
        yield taken
