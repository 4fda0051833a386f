"""Django's migrate, run by one host at a time. Documented in docs/howto/several-hosts.md."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from django.core.management.commands import migrate
from django.db import DatabaseError, connections

#: The lock's name, as an SQL expression. It contains the database, since such locks belong to the whole server.
LOCK = "CONCAT('migrate ', LEFT(SHA2(DATABASE(), 256), 32))"

#: Seconds between two tries to take the lock.
PAUSE = 0.2


class Command(migrate.Command):
    def handle(self, *args: Any, **options: Any) -> None:
        with self._alone(options["database"]):
            super().handle(*args, **options)

    @contextmanager
    def _alone(self, alias: str) -> Iterator[None]:
        """Holds the migration lock. Without it, two hosts would create the same tables, and one would fail (1050).

        The database releases the lock when the session ends, so a host that died blocks nobody. SQLite needs no
        lock: a DATA_DIR belongs to one `make run`.
        """
        connection = connections[alias]
        if connection.vendor != "mysql":
            yield
            return
        with connection.cursor() as cursor:
            told = False
            # Polls: a blocking GET_LOCK would exceed the connection's read timeout during a long migration.
            while not _first(cursor, f"SELECT GET_LOCK({LOCK}, 0)"):
                if not told:
                    self.stdout.write("Another host migrates this database; waiting for it.")
                    self.stdout.flush()
                    told = True
                time.sleep(PAUSE)
        try:
            yield
        finally:
            # A failed migration may have lost the session and with it the lock.
            with suppress(DatabaseError), connection.cursor() as cursor:
                cursor.execute(f"SELECT RELEASE_LOCK({LOCK})")


def _first(cursor: Any, statement: str) -> Any:
    cursor.execute(statement)
    return cursor.fetchone()[0]
