"""Accepts an older database as it is. Documented in docs/runbook.md."""

from __future__ import annotations

from argparse import ArgumentParser
from datetime import datetime

from django.core.management.base import BaseCommand, CommandError
from django.db import transaction

from chatsystem.writelog import ownership, rollback_guard
from chatsystem.writelog.events import to_datetime
from chatsystem.writelog.management.command import services
from chatsystem.writelog.models import Partition
from chatsystem.writelog.redis_client import of_every


class Command(BaseCommand):
    help = (
        "Accepts an older database (a restored dump) as it is and resumes writes. What it lost stays lost. "
        "Lost numbers are not given again."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--yes", action="store_true", help="Accept the loss. Without it: only print what is lost.")

    def handle(self, *, yes: bool, **options: object) -> None:
        with services():
            partitions = of_every(rollback_guard.partitions_behind)
            if not partitions:
                self.stdout.write("The database has lost nothing: there is nothing to accept.")
                return
            for partition in partitions:
                had, has = self._through(partition)
                self.stdout.write(f"partition {partition}: had stored all until {had}, now has all until {has}")
            if not yes:
                raise CommandError(
                    f"{len(partitions)} partitions are behind and halted. Bring the database forward (binary log), and "
                    "they resume by themselves. To accept the loss instead, run this again with --yes."
                )
            for partition in partitions:
                self._accept(partition)
            # The restored copy names the owner of its day.
            ownership.set_owner()
        self.stdout.write(
            f"Accepted: {len(partitions)} partitions resume, after the last number that was ever given. "
            "Next: `manage.py reindex`, which removes lost messages from the search, and `manage.py recount`."
        )

    @staticmethod
    def _through(partition: int) -> tuple[datetime | str, datetime | str]:
        row = Partition.objects.get(pk=partition)
        return to_datetime(rollback_guard.stored_through(partition)), (
            to_datetime(row.drained_through) if row.drained_through else "the beginning"
        )

    @staticmethod
    def _accept(partition: int) -> None:
        # Not `partitions.locked`, which refuses such a row.
        with transaction.atomic(durable=True):
            row = Partition.objects.select_for_update().get(pk=partition)
            rollback_guard.accept_database(partition, row.drained_through)
