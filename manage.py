#!/usr/bin/env python
"""Django's command line: `python manage.py help` lists the commands."""

import os
import sys


def main() -> None:
    # Overrides the value that the shell of another project may have exported. `--settings` still wins.
    os.environ["DJANGO_SETTINGS_MODULE"] = "chatsystem.settings"
    try:
        from chatsystem.management.command_line import execute
    except ModuleNotFoundError as error:
        sys.exit(f"{sys.executable} lacks the package {error.name}; use .venv/bin/python, which `make run` creates.")
    execute(sys.argv)


if __name__ == "__main__":
    main()
