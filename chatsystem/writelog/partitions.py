"""The row lock of a partition: only its holder may store or seed. Documented in docs/write-log.md."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import transaction

from chatsystem.writelog import rollback_guard
from chatsystem.writelog.models import Partition


@contextmanager
def locked(partition: int, *, skip: bool = False) -> Iterator[Partition | None]:
    """Opens a transaction that locks the partition's row until it ends: lock and data die together.

    With `skip`, yields None at once if another process holds the lock. SQLite has no row locks; there the transaction
    itself (BEGIN IMMEDIATE) is the lock.

    Raises `DatabaseBehind` if the row is older than what was stored: nothing may be done on such a database.

    Durable: it refuses to run inside another transaction, since events would leave the log before that one commits.
    """
    # Before the row: a drain commits first and tells Redis afterwards. The lock excludes other drains, but not those
    # that run on another node of a Galera cluster, or that took over while this process was stopped.
    stored_through = rollback_guard.stored_through(partition)
    with transaction.atomic(durable=True):
        row = Partition.objects.select_for_update(skip_locked=skip).filter(pk=partition).first()
        if row is not None:
            rollback_guard.check(row, stored_through)
        yield row
