"""Configures gunicorn for the live process, for `make run`, the image and systemd."""

from __future__ import annotations

import signal
from typing import Any

# Reads the settings in the master. A wrong one ends the master with its sentence; a worker would only be restarted.
from chatsystem import settings
from chatsystem.embedded.parent_death import end_with_parent

_socket = settings.DATA_DIR.live_socket
#: The socket is for connections that the web processes of this host hand over (chatsystem/server/handover.py). Where a
#: proxy sends requests for events, the command line passes an address for HTTP instead.
bind = f"unix:{_socket}"

worker_class = "live.worker.LiveWorker"
# Each process reads the log by itself. For more streams start more services, on more hosts.
workers = 1
#: Streams are counted by the application; gunicorn's worker for ASGI does not heed this. It is here for its log.
worker_connections = 10_000
#: Connections that wait to be accepted: all clients of a process that has ended come back at once.
backlog = 4096

limit_request_line = 8190
limit_request_field_size = 8190

#: Seconds for streams to end (live/asgi.py, STOP_SECONDS).
graceful_timeout = 5
#: Seconds without a heartbeat of the event loop.
timeout = 60
#: No second request on a connection: one that was handed over would reach the API's routes here.
keepalive = 0
#: A client that has gone ends its stream at once.
asgi_disconnect_grace_period = 0
# The worker starts the application by itself.
asgi_lifespan = "off"

logger_class = "chatsystem.logs.gunicorn.GunicornLogger"
# Paths hold tokens, and a token is the key to its application.
accesslog = None
forwarder_headers = ""
# All gunicorns of a user would share its default path.
control_socket_disable = True


def on_starting(server: Any) -> None:
    if bind in server.cfg.settings["bind"].get():
        _socket.parent.mkdir(mode=0o700, parents=True, exist_ok=True)


def post_fork(server: Any, worker: Any) -> None:
    # Without its master it would go on, unknown to whoever starts the next one.
    end_with_parent(signal.SIGKILL, parent=worker.ppid)
