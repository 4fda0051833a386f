"""Moves the partitions to the servers that REDIS_URL names now. Documented in docs/redis.md."""

from __future__ import annotations

from argparse import ArgumentParser

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from tqdm import tqdm

from chatsystem.conf import addresses
from chatsystem.conf.startup import StartupError
from chatsystem.writelog import moving
from chatsystem.writelog.management.command import services
from chatsystem.writelog.servers import servers_of


class Command(BaseCommand):
    help = (
        "Moves the partitions from the servers of a former REDIS_URL to those that REDIS_URL names now. Each accepts "
        "nothing until it is moved. If it is interrupted, run it again."
    )
    # A layout that has changed is what this command is for.
    requires_system_checks = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--from",
            dest="source",
            default=settings.OWN_REDIS_URL,
            help="The former value of REDIS_URL. Without it: the Redis of `make run`, which must be running.",
        )

    def handle(self, *, source: str, **options: object) -> None:
        try:
            former = servers_of(addresses.parse_state_redis("--from", source))
        except StartupError as error:
            raise CommandError(str(error)) from error
        with services():
            partitions = moving.partitions_to_move()
            if not partitions:
                self.stdout.write("All partitions lie where REDIS_URL says: there is nothing to move.")
                return
            # Only on a terminal (disable=None) and on stderr, so that the output stays plain lines.
            with tqdm(unit=" keys", unit_scale=True, disable=None) as bar:
                moved = moving.move(partitions, former, bar.update)
        self.stdout.write(
            f"Moved {moved.partitions} of {len(partitions)} partitions with {moved.keys:,} keys; the others stay. "
            "Next: start all web processes, workers and beat with the new REDIS_URL."
        )
