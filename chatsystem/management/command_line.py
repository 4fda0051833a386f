"""Runs Django's command line, with one sentence in place of a traceback when a service is down."""

from __future__ import annotations

from collections.abc import Sequence

from django.core.management import CommandError, execute_from_command_line

from chatsystem.conf.startup import StartupError
from chatsystem.writelog.management.command import services


def execute(arguments: Sequence[str]) -> None:
    """Runs a command. Raises StartupError where Django's own commands would end with a traceback."""
    try:
        with services():
            execute_from_command_line(list(arguments))
    except CommandError as error:
        raise StartupError(str(error)) from None
