"""The command of `make run`."""

from __future__ import annotations

import argparse
import sys

from chatsystem.conf.startup import StartupError
from chatsystem.embedded import preflight, runner
from chatsystem.embedded.console import say
from chatsystem.embedded.options import Options
from chatsystem.embedded.parent_death import end_with_parent


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m chatsystem.embedded", description=runner.__doc__)
    parser.add_argument("--end-with-parent", action="store_true", help="stop in order when the parent is killed")
    if parser.parse_args().end_with_parent:
        end_with_parent(runner.STOP)
    try:
        options = Options.from_environ()
        with preflight.claimed(options):
            return runner.run(options)
    except StartupError as error:
        say(f"make run: {error}", sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
