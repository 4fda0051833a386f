"""Applications take turns: one that asks for a lot does not keep another waiting."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from chatsystem.turns import Turns
from tests.api.wire import Client, request
from tests.embedded.product import BASE_DIR, Product, eventually

OURS, THEIRS = "/applications/" + "a" * 32, "/applications/" + "b" * 32
#: Of worker_connections / 4.
ROOM = 10
BODY = b"[]"


@pytest.fixture
def port(tmp_path: Path) -> Iterator[int]:
    """One process of gunicorn as the product runs it, with two threads, and room for ten that wait."""
    product = Product(tmp_path)
    command = [sys.executable, "-m", "gunicorn", "--config", "python:chatsystem.embedded.gunicorn_config"]
    sizes = ["--workers", "1", "--threads", "2", "--worker-connections", str(4 * ROOM)]
    with subprocess.Popen(
        [*command, *sizes, "tests.embedded.stub_app"], cwd=BASE_DIR, env=product.environ(), stderr=subprocess.DEVNULL
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


def begun(port: int, open_clients: ExitStack) -> Client:
    """A request of theirs whose body is still to come: until then it is under way, or waits for its turn."""
    client = open_clients.enter_context(Client(port))
    client.socket.sendall(request("POST", f"{THEIRS}/chats", BODY).removesuffix(BODY))
    return client


def test_an_application_with_many_requests_under_way_does_not_keep_another_waiting(port: int) -> None:
    with ExitStack() as open_clients:
        # Given more requests of one application than there are threads, none of which comes to its end,
        theirs = [begun(port, open_clients) for _ in range(ROOM)]

        # when another application asks, again and again, then it is answered, on each of its routes,
        for path in (OURS, f"{OURS}/chats", f"{OURS}/chats/1/messages?limit=1"):
            assert asked(port, path) == 200

        # and so are they, once their bodies arrive.
        for client in theirs:
            assert client.ask(BODY).status == 200


def test_beyond_the_room_to_wait_in_an_application_is_refused_and_another_is_not(port: int) -> None:
    with ExitStack() as open_clients:
        # Given an application that has one request under way and as many waiting as it may,
        theirs = [begun(port, open_clients) for _ in range(1 + ROOM)]
        assert asked(port, OURS) == 200

        # when it asks for more, then that is refused in the one error shape,
        for _ in range(3):
            with Client(port) as client:
                refusal = client.ask(request("POST", f"{THEIRS}/chats", BODY))
                assert (refusal.status, refusal.headers["Retry-After"]) == (503, "1")
                assert refusal.headers["Content-Type"] == "application/json"
                assert refusal.json()["errors"][0]["code"] == "service_unavailable"
                assert client.at_end()

        # and another application is answered, and so is what waits.
        assert asked(port, OURS) == 200
        for client in theirs:
            assert client.ask(BODY).status == 200
    assert asked(port, THEIRS) == 200


def test_connections_on_which_nothing_arrives_keep_nobody_waiting(port: int) -> None:
    with ExitStack() as open_clients:
        silent = [open_clients.enter_context(Client(port)) for _ in range(ROOM)]

        assert asked(port, OURS) == 200
        # They are answered when they do ask, and as often as they ask.
        for client in silent:
            assert client.ask(request("GET", OURS)).status == 200
            assert client.ask(request("POST", THEIRS, BODY)).status == 200


def test_requests_that_arrive_together_on_one_connection_are_all_answered(port: int) -> None:
    with Client(port) as client:
        client.socket.sendall(request("POST", OURS, BODY) + request("POST", THEIRS, BODY) + request("GET", "/"))

        assert [client.answer().status for _ in range(3)] == [200, 200, 200]


def test_the_parties_come_up_one_after_the_other_each_within_its_share() -> None:
    turns: Turns[int] = Turns(threads=3, share=2, room=9)
    for number in range(4):
        turns.wait("a", number)
    turns.wait("b", 10)
    turns.wait("c", 20)

    # One of each comes before the second of the first; then all threads are taken.
    assert [turns.next(), turns.next(), turns.next(), turns.next()] == [("a", 0), ("b", 10), ("c", 20), None]
    turns.done("b")
    assert [turns.next(), turns.next()] == [("a", 1), None]
    # A third of the first is beyond its share, though a thread is free.
    turns.done("c")
    assert turns.next() is None
    turns.wait("b", 11)
    assert turns.next() == ("b", 11)
    turns.done("a")
    assert turns.next() == ("a", 2)


def test_what_has_no_room_to_wait_in_is_told_so() -> None:
    turns: Turns[int] = Turns(threads=1, share=1, room=2)

    assert [turns.wait("a", number) for number in range(3)] == [True, True, False]
    assert turns.wait("b", 10)
    assert turns.next() == ("a", 0)
    assert turns.wait("a", 3)
