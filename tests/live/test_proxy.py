"""Behind nginx: events arrive at once, and a live process that is away gets no client to give up."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.deploy.proxy import ensure_nginx, nginx
from tests.support.harness import Tenant
from tests.support.live import POLL, STREAM, EventStream, LiveServer
from tests.support.ports import free_port
from tests.support.wire import Client, request


@pytest.fixture
def proxy(live: LiveServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    ensure_nginx()
    folder = tmp_path_factory.mktemp("nginx")
    with nginx(folder, web=f"127.0.0.1:{free_port()}", live=f"127.0.0.1:{live.port}") as port:
        yield port


def test_an_event_arrives_while_the_stream_goes_on(proxy: int, live: LiveServer, ours: Tenant) -> None:
    ours.chat()
    of_chat = EventStream(proxy, f"{ours.path}/chats/1/events").begun()
    of_application = EventStream(proxy, f"{ours.path}/events?x=y").begun()

    ours.message(1, "first")
    assert of_chat.until("first") == of_application.until("first") == ["first"]
    ours.message(1, "second")
    assert of_chat.until("second") == of_application.until("second") == ["second"]


def test_while_no_live_process_runs_a_stream_is_a_200_that_ends_and_a_poll_a_503(
    proxy: int, live: LiveServer, ours: Tenant
) -> None:
    live.kill()

    for headers in ((STREAM,), ("Accept: */*",), ()):
        stream = EventStream(proxy, f"{ours.path}/events?after=1-1", *headers)
        assert [event.retry for event in stream.to_the_end()] == [15_000]
        assert b"Content-Type: text/event-stream" in stream.read_head()
    for path in (f"{ours.path}/events", f"{ours.path}/chats/1/events", "/events?ticket=x"):
        with Client(proxy) as client:
            poll = client.ask(request("GET", path, None, POLL))
        assert poll.status == 503
        assert poll.headers["Retry-After"]
        assert json.loads(poll.content)["type"] == "server_error"
    with Client(proxy) as client:
        assert client.ask(request("GET", f"{ours.path}/chats")).status == 503
