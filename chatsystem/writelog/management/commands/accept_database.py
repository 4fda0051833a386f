"""Takes an older database as it is. Documented in docs/runbook.md."""

from __future__ import annotations

from argparse import ArgumentParser
from datetime import datetime

from django.core.management.base import BaseCommand, CommandError
from django.db import transaction

from chatsystem.writelog import behind, log
from chatsystem.writelog.arrival import to_datetime
from chatsystem.writelog.management.command import services
from chatsystem.writelog.models import Partition


class Command(BaseCommand):
    help = (
        "Accepts that a database which is older than it was (a restored dump) has lost what it stored since, and lets "
        "writes go on. Lost numbers are not given again."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--yes", action="store_true", help="Do it; without, only tell what is missing.")

    def handle(self, *, yes: bool, **options: object) -> None:
        with services():
            partitions = behind.look()
            if not partitions:
                self.stdout.write("The database is as new as it was: nothing to accept.")
                return
            for partition in partitions:
                had, has = self._through(partition)
                self.stdout.write(f"partition {partition}: had stored all until {had}, now holds all until {has}")
            if not yes:
                raise CommandError(
                    f"{len(partitions)} partitions are behind, and halted. Bring the database forward (binary log) and "
                    "they go on by themselves; or accept that what is missing is lost: run this again with --yes."
                )
            for partition in partitions:
                self._accept(partition)
        self.stdout.write(
            f"Accepted: {len(partitions)} partitions go on, after the last number that was ever given. "
            "Next: `manage.py reindex`, which takes what was lost out of the search, and `manage.py recount`."
        )

    @staticmethod
    def _through(partition: int) -> tuple[datetime | str, datetime | str]:
        row = Partition.objects.get(pk=partition)
        return to_datetime(log.stored_through(partition)), (
            to_datetime(row.drained_through) if row.drained_through else "the beginning"
        )

    @staticmethod
    def _accept(partition: int) -> None:
        # Not `partitions.locked`, which refuses a row like this one.
        with transaction.atomic(durable=True):
            row = Partition.objects.select_for_update().get(pk=partition)
            log.accept(partition, row.drained_through)
