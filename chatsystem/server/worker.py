"""The gunicorn worker. The main loop receives requests and sends responses; threads only run the application.

A slow client therefore holds memory and a connection, but no thread. A request waits in the fair queue until a thread
is free. gunicorn's own threaded worker lets a thread wait for the client. Documented in docs/write-log.md, "Limits".
docs/decisions.md says why whole responses, the lingering close and the errors are not gunicorn's own.
"""

from __future__ import annotations

import re
import selectors
import socket
import sys
import time
from concurrent.futures import Future
from typing import Any

from gunicorn.http import get_parser, wsgi
from gunicorn.workers.gthread import TConn, ThreadWorker

from chatsystem.logs.redaction import without_values
from chatsystem.monitoring import request_metrics
from chatsystem.server import balance, heap
from chatsystem.server.fair_queue import FairQueue
from chatsystem.server.handover import hand_over, is_for_the_live_process
from chatsystem.server.receiving import PIECE, Exchange, State
from chatsystem.server.responses import REQUEST_TIMEOUT, TOO_MANY_REQUESTS, ErrorResponse, response_to
from chatsystem.server.waiting import WaitingConnections

#: Tells gunicorn's `finish_request` to keep the connection.
KEEP_ALIVE: Future[Any] = Future()
KEEP_ALIVE.set_result(True)

#: Seconds for a request to arrive, and for the client to take its response.
RECEIVE_SECONDS = 20.0
SEND_SECONDS = 60.0
#: Limits of a lingering close: seconds, seconds while the process stops, and bytes.
LINGER_SECONDS = 10.0
STOP_LINGER_SECONDS = 2.0
LINGER_BYTES = 64 * 1024 * 1024
#: Maximum bytes in a process of each: arriving requests, queued requests, and unsent responses. One tenant may have a
#: quarter of the queued bytes.
MEMORY = 64 * 1024 * 1024

#: Seconds after which a thread that computes passes the interpreter to another. A request asks for the interpreter some
#: five times, and waits that long for each computing thread. With Python's default of 5 ms this wait would be the p99
#: beside a flood.
SWITCH_INTERVAL = 0.001

#: Seconds for which a process leaves a new connection to one that holds fewer. That process needs less to wake up.
HEAD_START = 0.002

#: The tenant of a request: its application, or for other routes the first word of the path.
TENANT = re.compile(rb"\S+ /(applications/[0-9a-f]{32}|[a-z]*)")
#: Bytes of a request that the pattern needs.
TENANT_BYTES = 64


class WholeResponse(wsgi.Response):
    """Collects the response and sends it in one piece, without waiting for the client.

    If a process is killed between two pieces, a proxy has already passed on the first one and cannot retry the request
    elsewhere.
    """

    def __init__(self, req: Any, sock: socket.socket, cfg: Any) -> None:
        super().__init__(req, req.exchange.response, cfg)

    def send_headers(self) -> None:
        """Announces `Connection: close` unless the next request can follow on this connection."""
        if not self.headers_sent and not self.req.exchange.is_received(self.req):
            self.force_close()
        super().send_headers()

    def close(self) -> None:
        super().close()
        self.sock.push()


class ApiWorker(ThreadWorker):
    """Receives and sends on the main loop, so that no slow client holds a thread."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        threads = self.cfg.threads
        self.queue: FairQueue[TConn] = FairQueue(
            threads, max_concurrent=max(threads // 4, 1), max_queued=self.worker_connections // 4, max_bytes=MEMORY // 4
        )
        #: The tenant of each connection whose request is running.
        self.tenants: dict[TConn, str] = {}
        #: gunicorn's parser refuses a larger head: all headers at their limit, and the request line.
        self.max_head = (self.cfg.limit_request_fields + 1) * (self.cfg.limit_request_field_size + 2) + 4

    def init_process(self) -> None:
        sys.setswitchinterval(SWITCH_INTERVAL)
        # gunicorn has no setting for the response class.
        wsgi.Response = WholeResponse
        super().init_process()

    def load_wsgi(self) -> None:
        super().load_wsgi()
        heap.freeze()
        for listener in self.sockets:
            # The master has only bound it (gunicorn.py). The other processes repeat this call, which changes nothing.
            listener.listen(self.cfg.backlog)

    # The methods from here to `handle_request` run on the main loop.

    def run(self) -> None:
        self.receiving = WaitingConnections(self.poller, selectors.EVENT_READ, self.go_on_receiving, MEMORY)
        self.sending = WaitingConnections(self.poller, selectors.EVENT_WRITE, self.go_on_sending, MEMORY)
        self.lingering = WaitingConnections(self.poller, selectors.EVENT_READ, self.discard, MEMORY)
        super().run()

    def wait_for_and_dispatch_events(self, timeout: float) -> None:
        accepts = self.alive and self.nr_conns < self.worker_connections
        balance.report(self.age, self.nr_conns if accepts else None)
        super().wait_for_and_dispatch_events(timeout)

    def set_accept_enabled(self, enabled: bool) -> None:
        super().set_accept_enabled(enabled)
        if not enabled and not self.alive:
            # gunicorn closes them after its last request. Until then the kernel would accept connections, and a proxy
            # would wait for answers. A master that replaces its processes keeps the port open.
            for listener in self.sockets:
                listener.close()

    def accept(self, listener: socket.socket) -> None:
        if balance.is_another_freer(self.age):
            # The freer process may hang, so this one then accepts what is left. gunicorn tolerates an empty queue.
            time.sleep(HEAD_START)
        super().accept(listener)
        self.make_room()

    def make_room(self) -> None:
        """Ends the slowest connection at the limit of connections. Above the limit gunicorn stops accepting."""
        while self.nr_conns >= self.worker_connections:
            if conn := self.lingering.pop_oldest():
                self.end(conn)
            elif conn := self.receiving.pop_oldest():
                self.give_up(conn)
            else:
                return

    def enqueue_req(self, conn: TConn) -> None:
        """Begins to receive a request. gunicorn calls it for a new connection and for a readable kept one."""
        if not conn.initialized:
            conn.exchange = Exchange(conn.sock, self.max_head)
            conn.parser = get_parser(self.cfg, conn.exchange.request, conn.client)
            # Keeps gunicorn's thread from waiting for data.
            conn.initialized = True
        conn.exchange.arrived = 0.0
        state = self.receive(conn)
        if state is State.ARRIVING:
            self.receiving.add(conn, len(conn.exchange.request.data))
        else:
            self.received(conn, state)

    def go_on_receiving(self, conn: TConn) -> None:
        is_first = not conn.exchange.arrived
        state = self.receive(conn)
        if state is State.ARRIVING and not is_first:
            self.receiving.resize(conn, len(conn.exchange.request.data))
            return
        self.receiving.remove(conn)
        if state is State.ARRIVING:
            # RECEIVE_SECONDS begin with the first byte of the request.
            self.receiving.add(conn, len(conn.exchange.request.data))
        else:
            self.received(conn, state)

    def receive(self, conn: TConn) -> State:
        exchange = conn.exchange
        exchange.request.receive()
        if exchange.request.data and not exchange.arrived:
            exchange.arrived = time.perf_counter()
        state: State = exchange.request.look()
        if exchange.request.take_expectation():
            self.send(conn.sock, b"HTTP/1.1 100 Continue\r\n\r\n")
        return state

    def received(self, conn: TConn, state: State) -> None:
        """Puts the request into its tenant's queue, hands it over to the live process, or refuses it."""
        if state is State.GONE:
            self.end(conn)
            return
        data = conn.exchange.request.data
        if is_for_the_live_process(data) and hand_over(conn.sock, data):
            # The live process has the connection now. This one closes its own copy of the descriptor.
            self.end(conn)
            return
        found = TENANT.match(data, 0, TENANT_BYTES)
        if self.queue.put(found[1].decode() if found else "", conn, len(data)):
            self.start_queued()
        else:
            self.refuse(conn, TOO_MANY_REQUESTS)

    def start_queued(self) -> None:
        while queued := self.queue.next():
            tenant, conn = queued
            self.tenants[conn] = tenant
            super().enqueue_req(conn)

    def finish_request(self, conn: TConn, fs: Future[Any]) -> None:
        """Sends the response. gunicorn calls it when a thread is done with the request."""
        self.queue.done(self.tenants.pop(conn))
        exchange = conn.exchange
        exchange.keep_alive = not fs.cancelled() and fs.exception() is None and bool(fs.result())
        if conn.sock.fileno() < 0:
            # gunicorn has closed the connection itself because the application failed within its response.
            self.end(conn)
        elif exchange.response.data:
            self.sending.add(conn, len(exchange.response.data))
        else:
            self.answered(conn)
        self.start_queued()

    def go_on_sending(self, conn: TConn) -> None:
        response = conn.exchange.response
        try:
            response.push()
        except OSError:
            self.sending.remove(conn)
            self.end(conn)
            return
        self.sending.resize(conn, len(response.data))
        if not response.data:
            self.sending.remove(conn)
            self.answered(conn)

    def answered(self, conn: TConn) -> None:
        exchange = conn.exchange
        if not exchange.keep_alive:
            self.linger(conn)
            return
        exchange.request.next()
        if exchange.request.data:
            # Pipelined bytes that are already read do not make the socket readable.
            self.enqueue_req(conn)
        else:
            super().finish_request(conn, KEEP_ALIVE)

    def linger(self, conn: TConn) -> None:
        """Closes for writing, and discards what the client still sends, within limits (lingering close).

        The kernel resets a socket that is closed with unread bytes. The client would lose a response that it has not
        read yet, and see a broken connection in place of the 413.
        """
        try:
            conn.sock.shutdown(socket.SHUT_WR)
        except OSError:
            self.end(conn)
            return
        conn.exchange.request.data.clear()
        self.lingering.add(conn)

    def discard(self, conn: TConn) -> None:
        exchange = conn.exchange
        try:
            received = len(conn.sock.recv(PIECE, socket.MSG_DONTWAIT))
        except BlockingIOError:
            return
        except OSError:
            received = 0
        exchange.discarded += received
        if not received or exchange.discarded > LINGER_BYTES:
            self.lingering.remove(conn)
            self.end(conn)

    def murder_pending(self) -> None:
        """Ends connections at their limits. gunicorn calls it at least once a second for its own timeouts."""
        for conn in self.receiving.pop_late(RECEIVE_SECONDS):
            self.give_up(conn)
        for conn in self.receiving.pop_excess():
            self.refuse(conn, TOO_MANY_REQUESTS)
        for conn in [*self.sending.pop_late(SEND_SECONDS), *self.sending.pop_excess()]:
            self.end(conn)
        for conn in self.lingering.pop_late(LINGER_SECONDS if self.alive else STOP_LINGER_SECONDS):
            self.end(conn)
        if not self.alive:
            for conn in [conn for conn in self.receiving.since if not conn.exchange.request.data]:
                self.receiving.remove(conn)
                self.end(conn)

    def give_up(self, conn: TConn) -> None:
        """Ends a connection that has waited too long for a request, with a 408 if part of one has arrived."""
        if conn.exchange.request.data:
            self.refuse(conn, REQUEST_TIMEOUT)
        else:
            self.end(conn)

    def end(self, conn: TConn) -> None:
        self.nr_conns -= 1
        conn.close()

    def refuse(self, conn: TConn, response: ErrorResponse) -> None:
        """Answers without a thread, and ends the connection."""
        if not response.is_server_error:
            # A line for each 503 would fill the log during a flood.
            self.log.info("Refused a request: %s", response.code)
        request_metrics.observe(None, "", response.status, time.perf_counter() - conn.exchange.arrived)
        self.send(conn.sock, response.encode())
        self.linger(conn)

    def send(self, client: socket.socket, data: bytes) -> None:
        """Sends a few bytes. They fit into the kernel's buffer, since the client has taken all earlier responses."""
        try:
            client.send(data, socket.MSG_DONTWAIT)
        except OSError:
            self.log.debug("The client was gone before it could be answered.")

    # The following methods run in a thread.

    def handle_request(self, req: Any, conn: TConn) -> Any:
        req.exchange = conn.exchange
        if any("close" in re.split(r"[ \t,]+", value.lower()) for name, value in req.headers if name == "CONNECTION"):
            # gunicorn does not find `close` in a list of several values.
            req.force_close()
        return super().handle_request(req, conn)

    def count(self, req: Any, environ: dict[str, Any], resp: Any) -> None:
        """Counts a request that was answered. One that failed has no status; `handle_error` counts it."""
        if resp is not None and resp.status_code is not None:
            seconds = time.perf_counter() - req.exchange.arrived
            request_metrics.observe(environ.get(request_metrics.MATCH), req.method, resp.status_code, seconds)

    def handle_error(self, req: Any, client: socket.socket, addr: Any, exc: Exception) -> None:
        """Answers a request that failed in the parser or the application, and logs it.

        The log holds neither the request line nor the exception's text, since both may hold tokens.
        """
        response = response_to(exc)
        if response.is_server_error:
            self.log.error("Error handling a request:\n%s", without_values(exc))
        else:
            self.log.info("Refused a request: %s", response.code)
        # A refused request takes no time.
        request_metrics.observe(None, "" if req is None else req.method, response.status, 0.0)
        self.send(client, response.encode())
