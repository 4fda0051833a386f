"""The gunicorn worker of the live process: gunicorn's own for ASGI, with what it lacks for streams.

Documented in docs/live.md. Written for gunicorn 27; tests/live/test_server.py notices when it changes.
"""

from __future__ import annotations

import asyncio
import resource
import socket
from typing import Any

from gunicorn.asgi.protocol import ASGIProtocol
from gunicorn.workers import gasgi

from chatsystem.server import heap
from chatsystem.server.handover import Parcel
from chatsystem.server.responses import CLIENT_ERRORS, REQUEST_TIMEOUT, SERVER_ERROR
from live.asgi import ABORT, PUSH

#: Seconds for a request to arrive, and for a client to take the end of its response.
RECEIVE_SECONDS = 20.0
LINGER_SECONDS = 10.0
#: Files that the process needs beside its streams.
OTHER_FILES = 200

#: The errors of gunicorn's parser, by status.
ERRORS = {response.status: response for _, response in CLIENT_ERRORS} | {408: REQUEST_TIMEOUT}


class LiveProtocol(ASGIProtocol):
    """A connection. `received` was read from it by a web process."""

    def __init__(self, worker: LiveWorker, received: bytes = b"") -> None:
        super().__init__(worker)
        self._received = received

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        # gunicorn waits for ever. A proxy protects the port, but nobody should depend on that.
        self._receiving = self.worker.loop.call_later(RECEIVE_SECONDS, self._give_up)
        if self._received:
            self.data_received(self._received)

    def _on_headers_complete(self) -> Any:
        self._receiving.cancel()
        return super()._on_headers_complete()

    def connection_lost(self, error: Exception | None) -> None:
        self._receiving.cancel()
        super().connection_lost(error)

    def _give_up(self) -> None:
        self._send_error_response(REQUEST_TIMEOUT.status, "")
        self._close_transport()

    def _build_http_scope(self, *args: Any) -> dict[str, Any]:
        scope = super()._build_http_scope(*args)
        # Closing would wait until the client takes what was written. A client that takes nothing is dropped.
        scope[ABORT] = self.transport.abort
        if scope["http_version"] == "1.1":
            scope[PUSH] = self._push
        return scope

    def _push(self, text: bytes) -> bool:
        """Writes a chunk, as gunicorn encodes the body of a response without a length to a client of HTTP/1.1."""
        if self._closed or self.transport.get_write_buffer_size():
            return False
        self._safe_write(b"%x\r\n%b\r\n" % (len(text), text))
        return True

    def _is_websocket_upgrade(self, request: Any) -> bool:
        return False

    def _send_error_response(self, status: int, message: str, extra_headers: Any = ()) -> None:
        """Answers in the API's error shape."""
        self._safe_write(ERRORS.get(status, ERRORS[400] if status < 501 else SERVER_ERROR).encode())

    def _close_transport(self) -> None:
        if self.transport is not None and not self._closed:
            self.worker.loop.call_later(LINGER_SECONDS, self.transport.abort)
        super()._close_transport()


class HandOver:
    """Accepts the connections that the web processes of this host hand over. To gunicorn it is a server of asyncio."""

    def __init__(self, worker: LiveWorker, listener: socket.socket) -> None:
        self.worker = worker
        self.listener = listener
        worker.loop.add_reader(listener.fileno(), self._accept)

    def close(self) -> None:
        self.worker.loop.remove_reader(self.listener.fileno())

    async def wait_closed(self) -> None:
        """Nothing is left open: a parcel arrives in one piece."""

    def _accept(self) -> None:
        try:
            sender, _ = self.listener.accept()
        except OSError:
            # Another process has taken it, or the web process has gone.
            return
        sender.setblocking(False)
        self.worker.loop.add_reader(sender.fileno(), self._receive, Parcel(sender))

    def _receive(self, parcel: Parcel) -> None:
        if parcel.receive():
            self.worker.loop.remove_reader(parcel.sender.fileno())
            for client, request in parcel.contents():
                client.setblocking(False)
                self.worker.adopt(client, request)


class LiveWorker(gasgi.ASGIWorker):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._adopting: set[asyncio.Task[Any]] = set()

    def init_process(self) -> None:
        # gunicorn has no setting for the protocol class.
        gasgi.ASGIProtocol = LiveProtocol
        super().init_process()

    def load_wsgi(self) -> None:
        super().load_wsgi()
        heap.freeze()

    async def _serve(self) -> None:
        self.asgi.streams.max_streams = min(self.asgi.streams.max_streams, _most_files() - OTHER_FILES)
        self.asgi.start(on_failure=self.handle_exit_signal)
        # asyncio's server would drop the descriptors that come with the bytes.
        listeners: list[Any] = self.sockets
        handing = [listener for listener in listeners if listener.sock.family == socket.AF_UNIX]
        self.sockets: list[Any] = [listener for listener in listeners if listener not in handing]
        self.servers += [HandOver(self, listener.sock) for listener in handing]
        await super()._serve()

    def adopt(self, client: socket.socket, request: bytes) -> None:
        """Serves a connection as if it had been accepted here."""
        task = self.loop.create_task(self._adopt(client, request))
        # The loop itself only keeps a weak reference.
        self._adopting.add(task)
        task.add_done_callback(self._adopting.discard)

    async def _adopt(self, client: socket.socket, request: bytes) -> None:
        try:
            await self.loop.connect_accepted_socket(lambda: LiveProtocol(self, request), client)
        except OSError:
            client.close()

    def handle_exit_signal(self) -> None:
        """Ends all streams. gunicorn would wait for them, and then cut them off."""
        if self.alive:
            self.asgi.stop()
            # At once: on a reload, clients that come back then wait for the next process instead of being refused.
            for server in self.servers:
                server.close()
        super().handle_exit_signal()


def _most_files() -> int:
    """Raises the limit of open files as far as it goes, and returns it."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return most
