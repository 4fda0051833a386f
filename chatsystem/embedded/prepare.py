"""Prepares a start of `make run`: reads the settings, probes the configured services, and migrates the database.

Messages for the user go to stdout, one sentence a line, and everything else to stderr. The exit code is 1 when the
product cannot start.
"""

from __future__ import annotations

import sys
from contextlib import redirect_stdout

import django

from chatsystem.conf.startup import StartupError

#: The services without which nothing can start. The others may become reachable later.
NEEDED = ("REDIS_URL", "DATABASE_URL")


def main() -> None:
    # This reads the settings.
    django.setup(set_prefix=False)
    from chatsystem.management import command_line
    from chatsystem.monitoring import reachable

    away = reachable.unreachable()
    for name in NEEDED:
        if name in away:
            raise StartupError(away[name])
    for sentence in away.values():
        print(sentence)
    with redirect_stdout(sys.stderr):
        command_line.execute(["manage.py", "migrate", "--no-input", "--verbosity", "1"])


if __name__ == "__main__":
    try:
        main()
    except StartupError as error:
        print(error)
        sys.exit(1)
