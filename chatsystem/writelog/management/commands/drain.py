"""Stores now what the log holds. Documented in docs/write-log.md."""

from __future__ import annotations

import time

from django.core.management.base import BaseCommand
from tqdm import tqdm

from chatsystem.writelog import log
from chatsystem.writelog.drain import drain_present
from chatsystem.writelog.management.command import services
from chatsystem.writelog.models import DeadEvent


class Command(BaseCommand):
    help = "Stores what the write log holds at this moment. Safe beside workers and while writes go on."

    def handle(self, **options: object) -> None:
        with services():
            self._drain(log.lengths())

    def _drain(self, waiting: dict[int, int]) -> None:
        started = time.monotonic()
        # On a terminal only (disable=None), and on stderr, so that the output stays plain lines.
        with tqdm(total=sum(waiting.values()), unit=" events", unit_scale=True, disable=None) as bar:
            stored = drain_present(waiting, bar.update)
        seconds = time.monotonic() - started
        rate = f", {stored / seconds:,.0f} a second" if stored else ""
        self.stdout.write(f"Drained {len(waiting)} partitions: {stored:,} events in {seconds:.1f} s{rate}.")
        self._tell_next(sum(log.lengths().values()), DeadEvent.objects.count())

    def _tell_next(self, left: int, dead: int) -> None:
        if dead:
            self.stdout.write(
                f"{dead:,} dead events: the database refused them. "
                "Next: /admin/writelog/deadevent/ tells why, and replays or discards them."
            )
        if left:
            self.stdout.write(
                f"{left:,} events have arrived meanwhile. Next: the workers store them, or run this again."
            )
        elif not dead:
            self.stdout.write("The log is empty. Next: `manage.py recount --dry-run` proves the counts.")
