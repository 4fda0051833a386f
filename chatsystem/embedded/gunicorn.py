"""gunicorn's configuration under `make run`: the common one, plus an address and workers that end with their master."""

from __future__ import annotations

import signal
from typing import Any

from chatsystem.embedded.options import Options
from chatsystem.embedded.parent_death import end_with_parent

# gunicorn reads all names of a configuration as settings, so this takes all names of the common one.
from chatsystem.server.gunicorn import *  # noqa: F403

bind = Options.from_environ().netloc


def post_fork(server: Any, worker: Any) -> None:
    # Otherwise a worker whose master was killed would hold the port for another second or more.
    end_with_parent(signal.SIGKILL, parent=worker.ppid)
