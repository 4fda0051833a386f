"""A TCP proxy between the product and one of its servers, which simulates network faults."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections.abc import Callable, Collection

#: Of SO_LINGER: a close that discards what is not sent and tells the peer so, with a RST.
RESET = struct.pack("ii", 1, 0)


class Proxy:
    """Forwards bytes between its own `port` and the port `target`, on its own thread.

    `role_of` returns the role of the process with a connection's source port. It is only called during faults.
    """

    def __init__(self, target: int, role_of: Callable[[int], str]) -> None:
        self.target, self.role_of = target, role_of
        self.silenced: Collection[str] = ()
        self.links: set[_Client] = set()
        self.loop = asyncio.new_event_loop()
        listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.port: int = listener.getsockname()[1]
        self.server = self.loop.run_until_complete(self.loop.create_server(lambda: _Client(self), sock=listener))
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()

    def silence(self, roles: Collection[str]) -> None:
        """Makes present and new connections of these roles stale: they stay open and carry nothing."""
        self._call(self._silence, roles)

    def resume(self) -> None:
        """Forwards new connections again. Stale ones stay stale, and what they carried is lost."""
        self._call(self._silence, ())

    def reset(self) -> None:
        self._call(self._reset)

    def close(self) -> None:
        self._call(self.server.close)
        self._call(self._reset)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        # One more round, in which the transports close their sockets.
        self.loop.run_until_complete(asyncio.sleep(0))
        self.loop.close()

    def _silence(self, roles: Collection[str]) -> None:
        self.silenced = roles
        for link in self.links:
            link.silent |= self.is_silenced(link)

    def is_silenced(self, link: _Client) -> bool:
        return bool(self.silenced) and self.role_of(link.source_port) in self.silenced

    def _reset(self) -> None:
        for link in list(self.links):
            link.reset()

    def _call(self, function: Callable[..., None], *arguments: object) -> None:
        """Runs the function on the proxy's thread, and waits for it."""

        async def call() -> None:
            function(*arguments)

        asyncio.run_coroutine_threadsafe(call(), self.loop).result()


class _Side(asyncio.Protocol):
    transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport


class _Client(_Side):
    """The product's side of a connection. It owns the link."""

    def __init__(self, proxy: Proxy) -> None:
        self.proxy = proxy
        self.server: _Server | None = None
        self.silent = self.gone = False
        #: What came before the server's side was there.
        self.early: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.source_port: int = transport.get_extra_info("peername")[1]
        self.proxy.links.add(self)
        self.silent = self.proxy.is_silenced(self)
        if not self.silent:
            self.connecting = self.proxy.loop.create_task(self._connect())

    async def _connect(self) -> None:
        try:
            _, server = await self.proxy.loop.create_connection(lambda: _Server(self), "127.0.0.1", self.proxy.target)
        except OSError:
            self.transport.abort()
            return
        if self.gone:
            server.transport.abort()
            return
        server.transport.writelines(self.early)
        self.server = server

    def data_received(self, data: bytes) -> None:
        if self.silent:
            return
        if self.server is None:
            self.early.append(data)
        else:
            self.server.transport.write(data)

    def connection_lost(self, error: Exception | None) -> None:
        self.gone = True
        # A server does not hear of the end of a silent connection: the proxy keeps its side until the server is fed up.
        if self.server is None or self.server.gone:
            self.proxy.links.discard(self)
        elif not self.silent:
            self.server.transport.close()

    def reset(self) -> None:
        for side in (self, self.server):
            if side is not None and not side.transport.is_closing():
                side.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                side.transport.abort()


class _Server(_Side):
    """The server's side of a connection."""

    def __init__(self, client: _Client) -> None:
        self.client = client
        self.gone = False

    def data_received(self, data: bytes) -> None:
        if not self.client.silent:
            self.client.transport.write(data)

    def connection_lost(self, error: Exception | None) -> None:
        self.gone = True
        if self.client.gone:
            self.client.proxy.links.discard(self.client)
        elif not self.client.silent:
            self.client.transport.close()
