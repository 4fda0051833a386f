"""`manage.py reindex`. Documented in docs/search.md."""

from __future__ import annotations

import time
from argparse import ArgumentParser
from itertools import islice

from django.core.management.base import BaseCommand, CommandError
from tqdm import tqdm

from messages_app.models import Message
from search import outbox
from search.backends import get_backend
from search.backends.base import SearchUnavailable
from search.reindex import Incomplete, differences, reindex

#: The number of differences that are listed.
LISTED = 20


class Command(BaseCommand):
    help = "Makes the search index equal to the database. Safe during writes. If it is stopped, run it again."

    def add_arguments(self, parser: ArgumentParser) -> None:
        modes = parser.add_mutually_exclusive_group()
        modes.add_argument("--verify", action="store_true", help="Only compare the two; change nothing.")
        modes.add_argument("--drop-old", action="store_true", help="Only delete the indexes that are out of service.")

    def handle(self, *, verify: bool, drop_old: bool, **options: object) -> None:
        try:
            self._verify() if verify else self._drop_old() if drop_old else self._reindex()
        except SearchUnavailable as error:
            raise CommandError(f"The index is down: {error}. Run the command again when it is up.") from error

    def _reindex(self) -> None:
        total = Message.objects.count()
        started = time.monotonic()
        self.stdout.write(f"Indexing {total:,} messages.")
        # Only on a terminal (disable=None), and on stderr, so that the output remains plain lines.
        with tqdm(total=total, unit=" messages", unit_scale=True, disable=None) as bar:
            try:
                outcome = reindex(get_backend(), bar.update)
            except Incomplete as error:
                raise CommandError(f"{error}. Next: `manage.py reindex --verify` lists them.") from error
        seconds = time.monotonic() - started
        removed = f", {outcome.removed:,} documents without a message removed" if outcome.removed else ""
        self.stdout.write(
            f"{outcome.messages:,} messages are in the index{removed}: "
            f"{seconds:.1f} s, {outcome.messages / seconds:,.0f} a second."
        )
        self._tell_unapplied_settings()
        self.stdout.write("Next: GET /search/<words>, or `manage.py reindex --verify` to compare every body.")

    def _tell_unapplied_settings(self) -> None:
        for sentence in get_backend().unapplied_settings():
            self.stdout.write(sentence)

    def _drop_old(self) -> None:
        dropped = get_backend().drop_old()
        self.stdout.write(f"Deleted {len(dropped)} indexes that were out of service{':' if dropped else '.'}")
        for name in dropped:
            self.stdout.write(f"  {name}")

    def _verify(self) -> None:
        self.stdout.write(f"{outbox.lag()}.")
        self._tell_unapplied_settings()
        found = differences(get_backend())
        listed = list(islice(found, LISTED))
        for difference in listed:
            self.stdout.write(str(difference))
        count = len(listed) + sum(1 for _ in found)
        if count:
            raise CommandError(f"The index and the database differ in {count:,} messages. Next: `manage.py reindex`.")
        self.stdout.write(f"The index equals the database: {Message.objects.count():,} messages.")
