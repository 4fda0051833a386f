"""How gunicorn serves the API under supervisord: as everywhere, on the port of `make run`, and tied to its master."""

from __future__ import annotations

import signal
from typing import Any

from chatsystem.embedded.options import Options
from chatsystem.embedded.tied import end_with_parent

# gunicorn takes a configuration's names for its settings: all of that one's are meant, whichever they are.
from chatsystem.gunicorn_config import *  # noqa: F403

bind = Options.from_environ().netloc


def post_fork(server: Any, worker: Any) -> None:
    # Without it a worker whose master was killed holds the port for another second or more.
    end_with_parent(signal.SIGKILL, parent=worker.ppid)
