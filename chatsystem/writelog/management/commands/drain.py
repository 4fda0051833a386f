"""Drains the log now. Documented in docs/write-log.md."""

from __future__ import annotations

import time

from django.core.management.base import BaseCommand
from tqdm import tqdm

from chatsystem.writelog import stream
from chatsystem.writelog.drain import drain_present
from chatsystem.writelog.management.command import services
from chatsystem.writelog.models import DeadEvent


class Command(BaseCommand):
    help = "Stores what the write log holds now. Safe while workers run and clients write."

    def handle(self, **options: object) -> None:
        with services():
            self._drain(stream.lengths())

    def _drain(self, waiting: dict[int, int]) -> None:
        started = time.monotonic()
        # Only on a terminal (disable=None) and on stderr, so that the output stays plain lines.
        with tqdm(total=sum(waiting.values()), unit=" events", unit_scale=True, disable=None) as bar:
            stored = drain_present(waiting, bar.update)
        seconds = time.monotonic() - started
        rate = f", {stored / seconds:,.0f} a second" if stored else ""
        self.stdout.write(f"Drained {len(waiting)} partitions: {stored:,} events in {seconds:.1f} s{rate}.")
        self._tell_next(sum(stream.lengths().values()), DeadEvent.objects.count())

    def _tell_next(self, left: int, dead: int) -> None:
        if dead:
            self.stdout.write(
                f"{dead:,} dead events: the database refused them. "
                "Next: /admin/writelog/deadevent/ shows why, and can replay or discard them."
            )
        if left:
            self.stdout.write(
                f"{left:,} events have arrived meanwhile. Next: the workers store them, or run this again."
            )
        elif not dead:
            self.stdout.write("The log is empty. Next: `manage.py recount --dry-run` verifies the counts.")
