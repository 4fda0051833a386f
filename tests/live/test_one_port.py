"""Under `make run` streams are on the port of the API: web processes hand connections over to the live process."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest
import requests

from tests.support.live import POLL, STREAM, EventStream
from tests.support.product import Product, children, eventually, kill
from tests.support.wire import Client, request

LIVE = "live.asgi"
WEB = "chatsystem.wsgi"


class Chat:
    """A chat of a running product."""

    def __init__(self, product: Product) -> None:
        self.product = product
        token = self._post("/applications", name="an application")["token"]
        self.path = f"/applications/{token}"
        self._post(f"{self.path}/chats", title="a chat")

    def _post(self, path: str, **fields: str) -> dict[str, str]:
        response = requests.post(f"{self.product.url}{path}", json=fields, timeout=60)
        assert response.status_code == 201, response.text
        answer: dict[str, str] = response.json()
        return answer

    def say(self, body: str) -> None:
        self._post(f"{self.path}/chats/1/messages", body=body)

    def open(self, *headers: str) -> EventStream:
        return EventStream(self.product.port, f"{self.path}/events", *headers)

    def listen(self, *headers: str) -> EventStream:
        """Connects as often as a client does, until it is not refused."""
        streams: list[EventStream] = []

        def is_served() -> bool:
            streams.append(self.open(STREAM, *headers))
            return streams[-1].read_head() != b"" and next(streams[-1].frames()).retry < 5_000

        eventually(is_served)
        return streams[-1]

    def listen_again(self, stream: EventStream) -> EventStream:
        return self.listen(f"Last-Event-ID: {stream.position}")


@pytest.fixture(scope="module")
def product(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    product = Product(tmp_path_factory.mktemp("product"))
    product.start()
    try:
        product.wait_until_ready()
        eventually(lambda: product.states()["live"] == "ok")
        yield product
    finally:
        product.kill_everything()


@pytest.fixture
def chat(product: Product) -> Chat:
    product.wait_until_ready()
    return Chat(product)


def test_a_stream_a_poll_and_the_api_share_a_port_and_a_connection_serves_one_of_them(
    product: Product, chat: Chat
) -> None:
    stream = chat.listen().begun()
    chat.say("hello")

    with Client(product.port) as client:
        # A kept connection of the API that asks for events later. What follows on it is served by nobody.
        first = client.ask(request("GET", chat.path))
        poll = client.ask(request("GET", f"{chat.path}/events?after=0-0&wait=0", None, POLL), request("GET", chat.path))
        assert (first.status, poll.status) == (200, 200)
        assert poll.headers["Connection"] == "close"
        assert client.at_end()

    assert stream.until("hello") == ["hello"]


def test_streams_outlive_the_web_processes(product: Product, chat: Chat) -> None:
    stream = chat.listen().begun()

    for main in product.mains(WEB):
        for pid in children(main):
            kill(pid)
    product.wait_until_ready()
    chat.say("after")

    assert stream.until("after") == ["after"]


def test_a_live_process_that_is_killed_is_replaced_and_nothing_is_missed(product: Product, chat: Chat) -> None:
    stream = chat.listen().begun()
    chat.say("before")
    stream.until("before")

    for pid in product.pids(LIVE):
        kill(pid)
    assert all(not event.name for event in stream.to_the_end())
    chat.say("meanwhile")
    again = chat.listen_again(stream)
    chat.say("after")

    assert again.until("after") == ["meanwhile", "after"]


def test_while_no_live_process_runs_a_web_process_refuses_for_the_moment(product: Product, chat: Chat) -> None:
    """supervisord cannot start another one while it stands still."""
    [supervisord] = product.mains("supervisor.supervisord")
    os.kill(supervisord, signal.SIGSTOP)
    try:
        for pid in product.pids(LIVE):
            kill(pid)
        # A dying process still holds its socket for a moment. What it has accepted ends without an answer.
        eventually(lambda: chat.open().read_head() != b"")
        refused = chat.open().to_the_end()
        with Client(product.port) as client:
            poll = client.ask(request("GET", f"{chat.path}/events", None, POLL))
        chat.say("the API works")
    finally:
        os.kill(supervisord, signal.SIGCONT)

    assert [event.retry for event in refused] == [15_000]
    assert poll.status == 503
    assert int(poll.headers["Retry-After"]) > 0
    eventually(lambda: product.states()["live"] == "ok")


def test_a_reload_of_the_live_process_refuses_nobody(product: Product, chat: Chat) -> None:
    stream = chat.listen().begun()
    [master] = product.mains(LIVE)

    os.kill(master, signal.SIGHUP)
    hint = stream.to_the_end()[-1]
    chat.say("meanwhile")
    again = chat.open(STREAM, f"Last-Event-ID: {stream.position}")

    assert 0 < hint.retry < 5_000
    assert again.until("meanwhile") == ["meanwhile"]


def test_other_methods_on_these_routes_are_refused(product: Product, chat: Chat) -> None:
    for method in ("HEAD", "POST", "DELETE"):
        response = requests.request(method, f"{product.url}{chat.path}/events", timeout=60)
        assert response.status_code == 405
        assert response.headers["Allow"] == "GET"
