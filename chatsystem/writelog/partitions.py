"""The partition's row lock: who holds it is the only one to store or to seed. Documented in docs/write-log.md."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import transaction

from chatsystem.writelog import behind
from chatsystem.writelog.models import Partition


@contextmanager
def locked(partition: int, *, skip: bool = False) -> Iterator[Partition | None]:
    """A transaction that holds the partition's row until it ends, however it ends: lock and data die together.

    With `skip`, yields None at once when somebody else holds it. On SQLite, which has no row locks, the transaction
    itself (BEGIN IMMEDIATE) is the lock.

    Raises `DatabaseBehind` when the row is older than what is known to be stored: nothing is done on such a database.

    Durable, so it refuses to run inside another transaction: an event would leave the log before that one commits.
    """
    with transaction.atomic(durable=True):
        row = Partition.objects.select_for_update(skip_locked=skip).filter(pk=partition).first()
        if row is not None:
            behind.refuse(row)
        yield row
