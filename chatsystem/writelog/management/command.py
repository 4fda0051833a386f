"""What the write log's commands share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from django.core.management.base import CommandError
from django.db import InterfaceError, OperationalError, ProgrammingError

from chatsystem.writelog.state import LogUnavailable


@contextmanager
def services() -> Iterator[None]:
    """One clear sentence and exit code 1, in place of a traceback, when a part is away."""
    try:
        yield
    except LogUnavailable as error:
        raise CommandError(
            f"The state Redis cannot be used now: {error}. Nothing is lost: start it (`make run` does), or look at "
            "REDIS_URL, and run the command again."
        ) from error
    except (OperationalError, InterfaceError, ProgrammingError) as error:
        raise CommandError(
            f"The database cannot be used now: {error}. Nothing is lost: look at DATABASE_URL, run `manage.py migrate` "
            "if it is new, and run the command again."
        ) from error
