"""Configures gunicorn for `make run` and for the image. The command line passes the address to listen on."""

from __future__ import annotations

from threading import Thread
from typing import TYPE_CHECKING, Any

from environs import validate
from gunicorn.sock import BaseSocket

# Reads the settings in the master. A wrong one ends the master with its sentence; a worker would only be restarted.
from chatsystem import settings  # noqa: F401
from chatsystem.conf.environment import env
from chatsystem.server import balance

if TYPE_CHECKING:
    from chatsystem.server.worker import ApiWorker

worker_class = "chatsystem.server.worker.ApiWorker"
workers = env.int("WEB_PROCESSES", 2, validate=validate.Range(1, 64))
threads = 8

#: Bytes. A longer request line is answered 414, a longer header 431.
limit_request_line = 8190
limit_request_field_size = 8190

#: Seconds for running requests to end. Shorter than the time between SIGTERM and SIGKILL (supervisord.conf,
#: docker-compose.yml).
graceful_timeout = 10
#: Seconds without a heartbeat of a worker's main loop.
timeout = 60
keepalive = 5

logger_class = "chatsystem.logs.gunicorn.GunicornLogger"
# Paths hold tokens, and a token is the key to its application.
accesslog = None
# Clients must not set WSGI variables by headers such as `Path_Info`.
forwarder_headers = ""
# All gunicorns of a user would share its default path.
control_socket_disable = True
# Files go through WholeResponse like everything else.
sendfile = False


def on_starting(server: Any) -> None:
    # The master would listen before a worker has loaded the application, which takes seconds. A proxy would connect and
    # wait, although another host could answer. Refused, it asks that one. So `ApiWorker.load_wsgi` listens.
    BaseSocket._is_listening = staticmethod(lambda sock: True)


def post_worker_init(worker: ApiWorker) -> None:
    # One worker logs this once, and serves requests meanwhile.
    if worker.age == 1:
        from chatsystem.monitoring.reachable import tell_unreachable

        Thread(target=tell_unreachable, daemon=True).start()


def child_exit(server: Any, worker: ApiWorker) -> None:
    # In the master, since a worker may have been killed.
    balance.report(worker.age, None)


def post_request(worker: ApiWorker, req: Any, environ: dict[str, Any], resp: Any) -> None:
    worker.count(req, environ, resp)
