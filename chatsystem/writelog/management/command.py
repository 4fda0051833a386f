"""Shared by the write log's commands."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from django.conf import settings
from django.core.management.base import CommandError
from django.db import InterfaceError, OperationalError, ProgrammingError

from chatsystem.conf.environment import given
from chatsystem.writelog.exceptions import LogUnavailable


@contextmanager
def services() -> Iterator[None]:
    """Turns the failure of a service into one clear sentence and exit code 1, instead of a traceback."""
    try:
        yield
    except LogUnavailable as error:
        raise CommandError(
            f"The state Redis cannot be used now: {_words(error)}. Nothing is lost: start it (`make run` does), or "
            f"check {_named_by('REDIS_URL')}, and run the command again."
        ) from error
    except (OperationalError, InterfaceError, ProgrammingError) as error:
        raise CommandError(
            f"The database cannot be used now: {_words(error)}. Nothing is lost: check {_named_by('DATABASE_URL')}, "
            "run `manage.py migrate` if it is new, and run the command again."
        ) from error


def _named_by(setting: str) -> str:
    """Returns the setting that selects the service or, if it is unset, the folder of the embedded one."""
    return setting if given(setting) else f"DATA_DIR ({settings.DATA_DIR.root}), which must be the running product's"


def _words(error: Exception) -> str:
    """Returns the driver's text: a database error has a number and a sentence."""
    return " ".join(map(str, error.args)).rstrip(".")
