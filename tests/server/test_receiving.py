"""Slow clients hold no thread, neither while they send a request nor while they receive its response."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from threading import Thread

import pytest

from chatsystem.server.fair_queue import FairQueue
from chatsystem.server.receiving import MAX_BODY
from chatsystem.server.worker import LINGER_SECONDS, MEMORY, RECEIVE_SECONDS, STOP_LINGER_SECONDS
from tests.support.product import BASE_DIR, Product, eventually
from tests.support.wire import Client, chunked, request

HEAD = b"POST /applications/%032x/chats HTTP/1.1\r\nHost: localhost\r\n"
#: More than the buffers of both ends of a connection can hold.
LARGE = 12 * 1024 * 1024


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    """One gunicorn process with the product's configuration and two threads."""
    product = Product(tmp_path_factory.mktemp("receiving"))
    command = [sys.executable, "-m", "gunicorn", "--config", "python:chatsystem.embedded.gunicorn"]
    with subprocess.Popen(
        [*command, "--workers", "1", "--threads", "2", "tests.support.stub_app"],
        cwd=BASE_DIR,
        env=product.environ(),
        stderr=subprocess.DEVNULL,
    ) as process:
        eventually(lambda: _answers(product.port))
        yield product.port, process
        process.terminate()


@pytest.fixture
def port(server: tuple[int, subprocess.Popen[bytes]]) -> int:
    return server[0]


def _answers(port: int) -> bool:
    try:
        return asked(port) == 200
    except OSError:
        return False


def asked(port: int, path: str = "/health/live") -> int:
    with Client(port) as client:
        return client.ask(request("GET", path)).status


#: What a client sends before it stops. Each names another application, and so another tenant.
BEGINNINGS: dict[str, Callable[[int], bytes]] = {
    "one byte": lambda n: b"P",
    "half a path": lambda n: (HEAD % n)[:30],
    "no end of the headers": lambda n: HEAD % n,
    "one byte of the body": lambda n: HEAD % n + b"Content-Length: 100\r\n\r\n{",
    "all but one byte of the body": lambda n: HEAD % n + b"Content-Length: 100\r\n\r\n" + b" " * 99,
    "a piece of a chunk": lambda n: HEAD % n + b"Transfer-Encoding: chunked\r\n\r\n5\r\n{",
    "no last chunk": lambda n: HEAD % n + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n",
    "no end of the trailers": lambda n: HEAD % n + b"Transfer-Encoding: chunked\r\n\r\n0\r\nX: y\r\n",
}


def test_requests_that_never_end_hold_no_thread_and_are_ended(port: int) -> None:
    with ExitStack() as open_clients:
        # Given clients that stop within their requests, one that continues byte by byte, and some that send nothing,
        began = time.monotonic()
        slow = []
        for number, beginning in enumerate([*BEGINNINGS.values()] * 5):
            client = open_clients.enter_context(Client(port))
            client.socket.settimeout(4 * RECEIVE_SECONDS)
            client.socket.sendall(beginning(number))
            slow.append(client)
        silent = [open_clients.enter_context(Client(port)) for _ in range(5)]
        dripping = slow[3]
        Thread(target=drip, args=(dripping.socket,), daemon=True).start()

        # when others send requests, then they are answered,
        for number in range(10):
            assert asked(port) == 200
            assert asked(port, f"/applications/{number:032x}") == 200
        assert time.monotonic() - began < RECEIVE_SECONDS

        # and the slow ones get a 408.
        for client in slow:
            answer = client.answer()
            assert (answer.status, answer.headers["Connection"]) == (408, "close")
            assert answer.headers["Content-Type"] == "application/json"
            assert answer.json()["errors"][0]["code"] == "request_timeout"
        assert time.monotonic() - began >= RECEIVE_SECONDS
        for client in silent:
            client.socket.settimeout(4 * RECEIVE_SECONDS)
            assert client.at_end()


def drip(connection: socket.socket) -> None:
    try:
        while True:
            connection.sendall(b" ")
            time.sleep(1)
    except OSError:
        return


def test_an_answer_that_nobody_takes_in_holds_no_thread(port: int) -> None:
    with ExitStack() as open_clients:
        # Given more clients than threads, which request large responses and read nothing,
        readers = [open_clients.enter_context(Client(port)) for _ in range(5)]
        for reader in readers[:4]:
            reader.socket.sendall(request("GET", f"/large/{LARGE}"))

        # then others are answered meanwhile,
        for _ in range(5):
            assert asked(port) == 200

        # and a client that finally reads gets the whole response, and an answer to its next request.
        for reader in readers[:4]:
            content = received(reader.socket, LARGE)
            assert content.partition(b"\r\n\r\n")[2].count(b"x") == LARGE
            assert reader.ask(request("GET", "/")).status == 200


def test_answers_that_nobody_takes_in_are_bounded_in_memory(port: int) -> None:
    with ExitStack() as open_clients:
        # Given more clients that read nothing than there is memory for their responses,
        readers = [open_clients.enter_context(Client(port)) for _ in range(4 * MEMORY // LARGE)]
        for reader in readers:
            reader.socket.sendall(request("GET", f"/large/{LARGE}"))
            assert asked(port) == 200

        # then only some of them lose their response.
        whole = [size for size in (len(all_of(reader.socket)) for reader in readers) if size > LARGE]
        assert MEMORY // LARGE - 1 <= len(whole) < len(readers)
        assert asked(port) == 200


def all_of(connection: socket.socket) -> bytes:
    """Reads until the response is complete or the connection ends."""
    content = bytearray()
    try:
        while len(content) <= LARGE and (piece := connection.recv(4 * 1024 * 1024)):
            content += piece
    except OSError:
        pass
    return bytes(content)


def received(connection: socket.socket, body: int) -> bytes:
    content = bytearray()
    while b"\r\n\r\n" not in content or len(content.partition(b"\r\n\r\n")[2]) < body:
        piece = connection.recv(4 * 1024 * 1024)
        assert piece
        content += piece
    return bytes(content)


@pytest.mark.parametrize("size", [0, 1, 70_000, 1_000_000, MAX_BODY])
@pytest.mark.parametrize("framing", ["length", "chunks"])
def test_a_connection_is_kept_after_a_body_that_nobody_read(port: int, size: int, framing: str) -> None:
    body = b"x" * size
    with Client(port) as client:
        for method in ("POST", "GET", "HEAD"):
            if framing == "length":
                answer = client.ask(request(method, "/", body), method=method)
            else:
                head = request(method, "/", b"", "Transfer-Encoding: chunked")
                answer = client.ask(head, chunked(body, 65_536), method=method)

            assert answer.headers["Connection"] == "keep-alive"
        assert client.ask(request("GET", "/")).content == b"ok"


@pytest.mark.parametrize("framing", ["length", "chunks"])
def test_connection_close_is_announced_when_a_body_is_too_large(port: int, framing: str) -> None:
    body = b"x" * (MAX_BODY + 1)
    with Client(port) as client:
        if framing == "length":
            answer = client.ask(request("POST", "/", body))
        else:
            answer = client.ask(request("POST", "/", b"", "Transfer-Encoding: chunked"), chunked(body, 65_536))

        assert answer.headers["Connection"] == "close"
        assert client.at_end()


@pytest.mark.parametrize(
    "body", [b"zz\r\n", b"2\r\n{}xx0\r\n\r\n", b"2\r\n{}\r\n0\r\nContent-Length: 1\r\n\r\n", b"0\r\nno colon\r\n\r\n"]
)
@pytest.mark.parametrize("path", ["/", f"/applications/{0:032x}"], ids=["unread", "read"])
def test_connection_close_is_announced_when_a_body_is_malformed(port: int, path: str, body: bytes) -> None:
    with Client(port) as client:
        answer = client.ask(request("POST", path, b"", "Transfer-Encoding: chunked"), body)

        assert answer.headers["Connection"] == "close"
        assert client.at_end()


@pytest.mark.parametrize(
    "value",
    ["close", "Close", "TE, close", "close, TE", "keep-alive, close", "TE,close"],
    ids=lambda value: value.replace(", ", "-and-"),
)
def test_connection_close_closes_whatever_stands_beside_it(port: int, value: str) -> None:
    with Client(port) as client:
        answer = client.ask(request("GET", "/", None, f"Connection: {value}", "TE: trailers"))

        assert (answer.status, answer.headers["Connection"]) == (200, "close")
        assert client.at_end()


@pytest.mark.parametrize("value", ["keep-alive", "TE", "closed", "x-close"])
def test_another_connection_header_does_not_close(port: int, value: str) -> None:
    with Client(port) as client:
        for _ in range(2):
            assert client.ask(request("GET", "/", None, f"Connection: {value}")).headers["Connection"] == "keep-alive"


SMUGGLED = b"GET /large/3 HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.mark.parametrize(
    "length",
    [
        b"Content-Length: %023d" % len(SMUGGLED),
        b"Content-Length: 1%023d" % len(SMUGGLED),
        b"Content-Length: +%d" % len(SMUGGLED),
        b"Content-Length : %d" % len(SMUGGLED),
        b"Content-Length: %d\r\nContent-Length: %d" % (len(SMUGGLED), len(SMUGGLED)),
    ],
    ids=["zeros", "too-long", "signed", "spaced", "twice"],
)
def test_no_part_of_a_body_is_answered_as_a_request(port: int, length: bytes) -> None:
    with Client(port) as client:
        answer = client.ask(b"GET / HTTP/1.1\r\nHost: localhost\r\n" + length + b"\r\n\r\n" + SMUGGLED)

        if answer.headers["Connection"] == "keep-alive":
            assert client.ask(request("GET", "/")).content == b"ok"
        else:
            assert client.at_end()


@pytest.mark.parametrize(
    "pieces",
    [
        b"1;" + b"a" * 10_000 + b"\r\nx\r\n",
        b"1\r\nx\r\n" * 1_600_000,
        b"0\r\n" + b"a: b\r\n" * 2_000,
        b"1;" + b"a" * 10_000,
    ],
    ids=["a-long-line", "many-lines", "many-trailers", "a-line-without-an-end"],
)
def test_data_between_chunks_is_bounded(port: int, pieces: bytes) -> None:
    with Client(port) as client:
        answer = client.ask(request("POST", "/", b"", "Transfer-Encoding: chunked"), pieces)

        assert answer.headers["Connection"] == "close"


def test_requests_may_arrive_byte_by_byte_or_several_at_once(port: int) -> None:
    head = request("POST", "/applications/x", b"", "Transfer-Encoding: chunked")
    one = head + chunked(b"[]" * 20, 7)
    with Client(port) as client:
        for byte in one:
            client.socket.sendall(bytes([byte]))
        assert client.answer().status == 200

        # Cut at each place. The second half comes with the next request and the beginning of a third.
        for cut in range(1, len(one), 5):
            client.socket.sendall(one[:cut])
            client.socket.sendall(one[cut:] + one + head[:9])
            assert [client.answer().status, client.answer().status] == [200, 200]
            client.socket.sendall(head[9:] + chunked(b"[]"))
            assert client.answer().status == 200


def test_a_stopping_process_answers_running_requests_and_closes_idle_connections(
    tmp_path: Path, server: tuple[int, subprocess.Popen[bytes]]
) -> None:
    port, process = server
    until = tmp_path / "until"
    with Client(port) as silent, Client(port) as client:
        assert silent
        client.socket.sendall(request("GET", "/", None, f"X-Until: {until}"))
        assert asked(port) == 200
        process.terminate()
        until.touch()

        assert client.answer().content == b"ok"
        assert process.wait(10 * LINGER_SECONDS) == 0
    assert STOP_LINGER_SECONDS < LINGER_SECONDS


def test_queued_bytes_are_bounded_for_a_tenant_and_for_all() -> None:
    queue: FairQueue[int] = FairQueue(threads=1, max_concurrent=1, max_queued=9, max_bytes=10)

    # A first request of any size, and then as much as fits into the memory.
    assert [queue.put("a", number, size) for number, size in enumerate([8, 2, 1])] == [True, True, False]
    assert [queue.put(tenant, 0, 10) for tenant in "bcd"] == [True, True, True]
    assert [queue.put("d", 1, 1), queue.put("e", 0, 1), queue.put("e", 1, 1)] == [False, True, False]
    # A running request no longer counts.
    assert queue.next() == ("a", 0)
    assert queue.put("a", 3, 1)
