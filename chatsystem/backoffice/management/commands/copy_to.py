"""Moves into another database: copies everything, and compares it. Documented in docs/operations.md."""

from __future__ import annotations

import time
from argparse import ArgumentParser
from collections.abc import Callable

from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError, InterfaceError, OperationalError, connections
from django.db.models import Model
from tqdm import tqdm

from chatsystem.backoffice import copying
from chatsystem.writelog.management.command import services


class Command(BaseCommand):
    help = "Copies everything from the present database (DATABASE_URL, or the embedded one) to another, which is empty."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("database_url", help="Where to: mysql://user:password@host:3306/name")
        parser.add_argument("--resume", action="store_true", help="Go on with a copy that was interrupted.")

    def handle(self, *, database_url: str, resume: bool, **options: object) -> None:
        try:
            with services():
                self._copy(database_url, resume)
        except copying.CannotCopy as error:
            raise CommandError(str(error)) from error

    def _copy(self, database_url: str, resume: bool) -> None:
        started = time.monotonic()
        copying.open_target(database_url)
        with copying.stopped():
            copying.expect_migrated()
            # Looks at the server's configuration first.
            call_command("migrate", database=copying.TARGET, verbosity=0, interactive=False)
            if not resume:
                copying.expect_empty()
            copying.clear_what_migrate_made()
            rows = copying.total()
            self._walk("Copying", rows, copying.copy)
            connections[copying.TARGET].check_constraints()
            self._walk("Comparing", rows, copying.compare)
        self.stdout.write(
            f"{rows:,} rows copied in {time.monotonic() - started:.1f} s, and each compared. "
            "Next: start the product with that DATABASE_URL, on the same DATA_DIR or Redis; what is still in the write "
            "log is stored there. Do not start it on the old database again: it would take new writes away."
        )

    def _walk(self, what: str, rows: int, step: Callable[[type[Model], copying.Progress], None]) -> None:
        # On a terminal only (disable=None), and on stderr, so that the output stays plain lines.
        with tqdm(total=rows, desc=what, unit=" rows", unit_scale=True, disable=None) as bar:
            for model in copying.models():
                try:
                    step(model, bar.update)
                except (OperationalError, InterfaceError):
                    raise
                except DatabaseError as error:
                    raise CommandError(f"{what} {model._meta.db_table}: {error}") from error
