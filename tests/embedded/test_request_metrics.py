"""Requests and events are counted over all processes of a product, and none is forgotten when one of them is killed."""

from __future__ import annotations

import signal
import socket
from collections.abc import Iterator
from functools import partial

import pytest
import requests

from tests.embedded.product import Product, eventually, kill
from tests.embedded.scrape import scrape, total

ANSWERED = "chatsystem_request_duration_seconds_count"
MESSAGES = "/applications/:token/chats/:chat_number/messages"


@pytest.fixture(scope="module")
def product(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    running = Product(tmp_path_factory.mktemp("metrics"))
    running.start()
    running.wait_until_ready()
    yield running
    running.kill_everything()


@pytest.fixture
def messages(product: Product) -> str:
    """Where the messages of a new chat are posted to."""
    eventually(lambda: product.ready() and len(web_processes(product)) == 2)
    token = requests.post(f"{product.url}/applications", json={"name": "ours"}, timeout=20).json()["token"]
    requests.post(f"{product.url}/applications/{token}/chats", json={"title": "a chat"}, timeout=20)
    return f"{product.url}/applications/{token}/chats/1/messages"


def web_processes(product: Product) -> set[int]:
    return product.pids(" gunicorn ") - product.mains(" gunicorn ")


def are_replaced(product: Product, old: set[int]) -> bool:
    """Whether there are two again, and not the same two."""
    now = web_processes(product)
    return len(now) == 2 and now != old and product.ready()


def post(path: str, times: int) -> None:
    """Each on a connection of its own, which either web process may take."""
    for _ in range(times):
        assert requests.post(path, json={"body": "hello"}, timeout=20).status_code == 201


def send(product: Product, request: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", product.port), timeout=20) as client:
        client.sendall(request)
        return client.recv(65_536)


def posted(product: Product) -> float:
    return total(scrape(product), ANSWERED, route=MESSAGES, method="POST", status="201")


def are_counted(product: Product, posts: float) -> bool:
    return posted(product) == posts


def test_any_web_process_tells_the_requests_of_all(product: Product, messages: str) -> None:
    before = posted(product)

    post(messages, 30)

    # A request is counted once its answer has been sent.
    eventually(lambda: posted(product) == before + 30, within=5)
    assert {posted(product) for _ in range(20)} == {before + 30}
    metrics = scrape(product)
    took = total(metrics, "chatsystem_request_duration_seconds_sum", route=MESSAGES)
    assert 0 < took < 30 * 20
    assert total(metrics, "chatsystem_request_duration_seconds_bucket", route=MESSAGES, le="+Inf") == before + 30


def test_what_a_client_makes_up_is_no_label(product: Product, messages: str) -> None:
    token = messages.split("/")[4]
    head = b" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    for request in (
        b"GET /made/up" + head,
        b"MADEUP /applications" + head,
        b"GET /applications/" + token.encode() + b"/" + head,
        b"GET /search/madeup?application=" + token.encode() + head,
        b"GET /admin/applications/application/1/change/" + head,
        b"GET /applications/" + b"f" * 32 + head,
    ):
        assert send(product, request).startswith(b"HTTP/1.1 ")

    def told() -> dict[str, float]:
        metrics = scrape(product)
        assert token not in metrics
        assert "made" not in metrics.lower()
        assert "ffff" not in metrics
        return {
            "unknown": total(metrics, ANSWERED, route="none", method="GET", status="404"),
            "method": total(metrics, ANSWERED, route="/applications", method="other", status="405"),
            "slash": total(metrics, ANSWERED, route="/applications/:token", method="GET", status="200"),
            "search": total(metrics, ANSWERED, route="/search/:query", method="GET", status="200"),
            "admin": total(metrics, ANSWERED, route="/admin", method="GET", status="302"),
            "missing": total(metrics, ANSWERED, route="/applications/:token", method="GET", status="404"),
        }

    eventually(lambda: told() == dict.fromkeys(told(), 1.0), within=5)


def test_what_the_server_refuses_by_itself_is_counted(product: Product, messages: str) -> None:
    assert b" 400 " in send(product, b"GET\r\n\r\n")

    eventually(lambda: total(scrape(product), ANSWERED, route="none", method="other", status="400") == 1, within=5)


def test_killed_and_replaced_web_processes_lose_no_request(product: Product, messages: str) -> None:
    # Given requests that both processes have answered and counted,
    expected = posted(product) + 20
    post(messages, 20)

    # when one process is killed, when a reload replaces both, and when all of gunicorn is killed,
    for replace in (
        lambda: kill(min(web_processes(product))),
        lambda: product.signal(" gunicorn ", signal.SIGHUP),
        lambda: [kill(pid) for pid in product.mains(" gunicorn ")],
    ):
        # An answer is on its way a moment before it is counted: a process killed in between has not counted it.
        eventually(partial(are_counted, product, expected), within=5)
        old = web_processes(product)
        replace()
        eventually(partial(are_replaced, product, old))
        post(messages, 5)
        expected += 5

    # then their successors go on with their numbers, in as many files as there were processes at once.
    eventually(partial(are_counted, product, expected), within=5)
    assert len(list((product.data_dir / "run" / "metrics").glob("*.db"))) <= 4


def test_a_killed_worker_loses_no_total(product: Product, messages: str) -> None:
    def totals() -> tuple[float, float]:
        metrics = scrape(product)
        return (
            total(metrics, "chatsystem_acknowledged_events_total"),
            total(metrics, "chatsystem_stored_events_total"),
        )

    eventually(lambda: totals()[0] == totals()[1])
    acknowledged, stored = totals()

    # When workers are killed again and again while they store,
    for _ in range(4):
        post(messages, 25)
        for pid in product.pids("celery_app worker "):
            kill(pid)

    # then each event is counted once as acknowledged, and once as stored.
    eventually(lambda: totals() == (acknowledged + 100, stored + 100))
    drained = total(scrape(product), "chatsystem_drain_batch_events_sum")
    assert drained >= stored + 100
