"""The fair queue: an application with many requests does not delay another."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from chatsystem.server.fair_queue import FairQueue
from chatsystem.server.worker import RECEIVE_SECONDS
from tests.support.product import BASE_DIR, Product, eventually
from tests.support.wire import Client, request

OURS, THEIRS = "/applications/" + "a" * 32, "/applications/" + "b" * 32
#: Queued requests of one tenant: worker_connections / 4.
ROOM = 10
BODY = b"[]"


@pytest.fixture
def port(tmp_path: Path) -> Iterator[int]:
    """One gunicorn process with the product's configuration, two threads, and ten queued requests per tenant."""
    product = Product(tmp_path)
    command = [sys.executable, "-m", "gunicorn", "--config", "python:chatsystem.embedded.gunicorn"]
    sizes = ["--workers", "1", "--threads", "2", "--worker-connections", str(4 * ROOM)]
    with subprocess.Popen(
        [*command, *sizes, "tests.support.stub_app"], cwd=BASE_DIR, env=product.environ(), stderr=subprocess.DEVNULL
    ) as server:
        eventually(lambda: _answers(product.port))
        yield product.port
        server.terminate()


def _answers(port: int) -> bool:
    try:
        with Client(port) as client:
            return client.ask(request("GET", "/")).status == 200
    except OSError:
        return False


def asked(port: int, path: str) -> int:
    with Client(port) as client:
        return client.ask(request("POST", path, BODY)).status


def begun(port: int, open_clients: ExitStack, until: Path) -> Client:
    """Sends a request of theirs that runs or waits until the file exists."""
    client = open_clients.enter_context(Client(port))
    client.socket.sendall(request("POST", f"{THEIRS}/chats", BODY, f"X-Until: {until}"))
    return client


def test_an_application_with_many_requests_under_way_does_not_keep_another_waiting(port: int, tmp_path: Path) -> None:
    until = tmp_path / "until"
    with ExitStack() as open_clients:
        # Given more requests of one application than there are threads, none of which ends,
        theirs = [begun(port, open_clients, until) for _ in range(ROOM)]

        # when another application sends requests, then they are answered, on each of its routes,
        for path in (OURS, f"{OURS}/chats", f"{OURS}/chats/1/messages?limit=1"):
            assert asked(port, path) == 200

        # and so are the first ones, in their turn.
        until.touch()
        for client in theirs:
            assert client.answer().status == 200


def test_a_full_queue_of_one_application_does_not_affect_another(port: int, tmp_path: Path) -> None:
    until = tmp_path / "until"
    with ExitStack() as open_clients:
        # Given an application with one running request and a full queue,
        theirs = [begun(port, open_clients, until) for _ in range(1 + ROOM)]
        assert asked(port, OURS) == 200

        # when it sends more, then they are refused in the error shape,
        for _ in range(3):
            with Client(port) as client:
                refusal = client.ask(request("POST", f"{THEIRS}/chats", BODY))
                assert (refusal.status, refusal.headers["Retry-After"]) == (503, "1")
                assert refusal.headers["Content-Type"] == "application/json"
                assert refusal.json()["errors"][0]["code"] == "service_unavailable"
                assert client.at_end()

        # and another application is answered, and so are the queued requests.
        assert asked(port, OURS) == 200
        until.touch()
        for client in theirs:
            assert client.answer().status == 200
    assert asked(port, THEIRS) == 200


def test_idle_connections_delay_nobody(port: int) -> None:
    with ExitStack() as open_clients:
        silent = [open_clients.enter_context(Client(port)) for _ in range(ROOM)]

        assert asked(port, OURS) == 200
        # They are answered as soon and as often as they send a request.
        for client in silent:
            assert client.ask(request("GET", OURS)).status == 200
            assert client.ask(request("POST", THEIRS, BODY)).status == 200


def test_more_slow_clients_than_connections_delay_nobody(port: int) -> None:
    with ExitStack() as open_clients:
        # Given clients that send nothing, or half a request, on more connections than allowed,
        for number in range(6 * ROOM):
            client = open_clients.enter_context(Client(port))
            client.socket.sendall(b"POST" if number % 2 else b"")

        # then the next client takes the place of the slowest.
        for _ in range(3):
            began = time.monotonic()
            assert asked(port, OURS) == 200
            assert time.monotonic() - began < RECEIVE_SECONDS / 2


def test_pipelined_requests_are_all_answered(port: int) -> None:
    with Client(port) as client:
        client.socket.sendall(request("POST", OURS, BODY) + request("POST", THEIRS, BODY) + request("GET", "/"))

        assert [client.answer().status for _ in range(3)] == [200, 200, 200]


def test_tenants_are_served_round_robin_up_to_their_concurrency() -> None:
    queue: FairQueue[int] = FairQueue(threads=3, max_concurrent=2, max_queued=9, max_bytes=0)
    for number in range(4):
        queue.put("a", number)
    queue.put("b", 10)
    queue.put("c", 20)

    # One request of each tenant comes before the second of the first. Then all threads are busy.
    assert [queue.next(), queue.next(), queue.next(), queue.next()] == [("a", 0), ("b", 10), ("c", 20), None]
    queue.done("b")
    assert [queue.next(), queue.next()] == [("a", 1), None]
    # A third request of the first tenant would exceed its concurrency, though a thread is free.
    queue.done("c")
    assert queue.next() is None
    queue.put("b", 11)
    assert queue.next() == ("b", 11)
    queue.done("a")
    assert queue.next() == ("a", 2)


def test_a_full_queue_refuses_a_request() -> None:
    queue: FairQueue[int] = FairQueue(threads=1, max_concurrent=1, max_queued=2, max_bytes=0)

    assert [queue.put("a", number) for number in range(3)] == [True, True, False]
    assert queue.put("b", 10)
    assert queue.next() == ("a", 0)
    assert queue.put("a", 3)
