"""Shows or resets the rate limit of an application. Documented in docs/settings.md."""

from __future__ import annotations

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from redis import RedisError

from chatsystem.api import rate_limit


class Command(BaseCommand):
    help = "Shows how many requests an application may make now, under RATE_LIMIT and RATE_LIMIT_BURST."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("token", help="the application's token")
        parser.add_argument("--reset", action="store_true", help="fill the bucket first")

    def handle(self, token: str, reset: bool, **options: object) -> None:
        if not rate_limit.TOKEN.fullmatch(token):
            raise CommandError("This is not a token: 32 characters of 0-9a-f.")
        if not settings.RATE_LIMIT:
            raise CommandError(
                "RATE_LIMIT is not set here: nothing is limited. Run it with the settings of the product."
            )
        try:
            if reset:
                rate_limit.fill(token)
            bucket = rate_limit.look(token)
        except RedisError as error:
            raise CommandError(f"The cache is away ({error}): nothing is limited until it is back.") from error
        told = f"{bucket.left:,} of {settings.RATE_LIMIT_BURST:,} requests are left"
        if bucket.wait:
            told += f", the next one in {bucket.wait:.1f} s"
        if bucket.full_in:
            told += f", all of them in {bucket.full_in:.1f} s"
        self.stdout.write(f"{told}; {settings.RATE_LIMIT:g} come back each second.")
