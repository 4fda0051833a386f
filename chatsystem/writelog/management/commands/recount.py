"""Verifies and repairs all counts. Documented in docs/counts.md."""

from __future__ import annotations

import time
from argparse import ArgumentParser

from django.core.management.base import BaseCommand
from tqdm import tqdm

from chatsystem.writelog.counts import ChildCount, Drift, all_counts
from chatsystem.writelog.management.command import services


class Command(BaseCommand):
    help = "Counts the chats of every application and the messages of every chat, and repairs the counts that differ."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--dry-run", action="store_true", help="Only print what differs. Changes nothing.")

    def handle(self, *, dry_run: bool, **options: object) -> None:
        with services():
            self._recount(dry_run)

    def _recount(self, dry_run: bool) -> None:
        started = time.monotonic()
        checked, found = 0, 0
        for count in all_counts():
            total = count.parent._default_manager.count()
            # Only on a terminal (disable=None) and on stderr, so that the output stays plain lines.
            with tqdm(total=total, desc=str(count), unit=" parents", unit_scale=True, disable=None) as bar:
                for looked_at, drifts in count.verify(repair=not dry_run):
                    with tqdm.external_write_mode():
                        for drift in drifts:
                            self.stdout.write(self._line(count, drift, dry_run))
                    found += len(drifts)
                    checked += looked_at
                    bar.update(looked_at)
        self._tell(checked, found, time.monotonic() - started, dry_run)

    @staticmethod
    def _line(count: ChildCount, drift: Drift, dry_run: bool) -> str:
        # A token grants access to its application. Six characters identify it and grant nothing.
        had = "is" if dry_run else "was"
        return (
            f"{count} of id {drift.parent_id} (token {drift.token[:6]}…) {had} {drift.stored}, counted {drift.actual}"
        )

    def _tell(self, checked: int, found: int, seconds: float, dry_run: bool) -> None:
        if not found:
            outcome, following = "no drift", "nothing to do"
        elif dry_run:
            outcome, following = f"{found:,} drifted", "`manage.py recount` repairs them"
        else:
            outcome = f"{found:,} drifted and repaired"
            following = "the likely cause is something other than the drain that wrote or deleted rows"
        self.stdout.write(f"{checked:,} parents checked in {seconds:.1f} s: {outcome}. Next: {following}.")
