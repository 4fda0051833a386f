"""How gunicorn serves the API, wherever it runs. Where it listens is told by who starts it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from chatsystem import spread

if TYPE_CHECKING:
    from chatsystem.server import ApiWorker

worker_class = "chatsystem.server.ApiWorker"
workers = 2
threads = 8

#: Bytes. Beyond them the answer is 414 and 431.
limit_request_line = 8190
limit_request_field_size = 8190

#: Seconds that requests at hand have to end in; less than what follows SIGTERM with SIGKILL waits (supervisord.conf,
#: docker-compose.yml).
graceful_timeout = 10
#: Seconds without a sign of life of a worker's main loop.
timeout = 60
keepalive = 5

logger_class = "chatsystem.logs.gunicorn.GunicornLogger"
# Paths hold tokens, and a token is the key to its application.
accesslog = None
# Headers such as `Path_Info` are a client's text, never part of the WSGI environment.
forwarder_headers = ""
# Its default place is shared by all gunicorns of a user.
control_socket_disable = True


def child_exit(server: Any, worker: ApiWorker) -> None:
    # In the master, since a worker may have been killed.
    spread.tell(worker.age, None)


def post_request(worker: ApiWorker, req: Any, environ: dict[str, Any], resp: Any) -> None:
    worker.count(req, environ, resp)
