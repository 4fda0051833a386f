"""Moves to another database: copies everything and compares both. Documented in docs/databases.md."""

from __future__ import annotations

import time
from argparse import ArgumentParser
from collections.abc import Callable

from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError, InterfaceError, OperationalError, connections
from django.db.models import Model
from tqdm import tqdm

from chatsystem.backoffice import database_copy
from chatsystem.writelog.management.command import services


class Command(BaseCommand):
    help = "Copies everything from the current database (DATABASE_URL, or the embedded one) to an empty one."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("database_url", help="the target, as mysql://user:password@host:3306/name")
        parser.add_argument("--resume", action="store_true", help="continue an interrupted copy")

    def handle(self, *, database_url: str, resume: bool, **options: object) -> None:
        try:
            with services():
                self._copy(database_url, resume)
        except database_copy.CannotCopy as error:
            raise CommandError(str(error)) from error

    def _copy(self, database_url: str, resume: bool) -> None:
        started = time.monotonic()
        database_copy.open_target(database_url)
        with database_copy.stopped():
            database_copy.expect_migrated()
            # This also checks the server's configuration.
            call_command("migrate", database=database_copy.TARGET, verbosity=0, interactive=False)
            if not resume:
                database_copy.expect_empty()
            database_copy.clear_what_migrate_made()
            rows = database_copy.total()
            self._walk("Copying", rows, database_copy.copy)
            connections[database_copy.TARGET].check_constraints()
            self._walk("Comparing", rows, database_copy.compare)
        self.stdout.write(
            f"{rows:,} rows copied in {time.monotonic() - started:.1f} s, and each compared. "
            "Next: start the product with that DATABASE_URL, on the same DATA_DIR or Redis; what is still in the write "
            "log is stored there. Do not start it on the old database again: it would take new writes away."
        )

    def _walk(self, what: str, rows: int, step: Callable[[type[Model], database_copy.Progress], None]) -> None:
        # On stderr, and only on a terminal (disable=None), so that stdout has only plain lines.
        with tqdm(total=rows, desc=what, unit=" rows", unit_scale=True, disable=None) as bar:
            for model in database_copy.models():
                try:
                    step(model, bar.update)
                except (OperationalError, InterfaceError):
                    raise
                except DatabaseError as error:
                    raise CommandError(f"{what} {model._meta.db_table}: {error}") from error
