"""Requests and events are counted over all processes of a product, and a kill loses no count."""

from __future__ import annotations

import signal
import socket
from collections import Counter
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
import requests
from prometheus_client.parser import text_string_to_metric_families

from tests.support.product import Product, eventually, kill
from tests.support.scrape import scrape, total

ANSWERED = "chatsystem_request_duration_seconds_count"
MESSAGES = "/applications/:token/chats/:chat_number/messages"
MESSAGE = f"{MESSAGES}/:number"


@pytest.fixture(scope="module")
def product(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    running = Product(tmp_path_factory.mktemp("metrics"), settings={"REDIS_TIMEOUT": "1"})
    running.start()
    running.wait_until_ready()
    yield running
    running.kill_everything()


@pytest.fixture
def messages(product: Product) -> str:
    """Returns the URL of a new chat's messages."""
    eventually(lambda: product.ready() and len(web_processes(product)) == 2)
    token = requests.post(f"{product.url}/applications", json={"name": "ours"}, timeout=20).json()["token"]
    requests.post(f"{product.url}/applications/{token}/chats", json={"title": "a chat"}, timeout=20)
    return f"{product.url}/applications/{token}/chats/1/messages"


def web_processes(product: Product) -> set[int]:
    return product.pids("chatsystem.wsgi") - product.mains("chatsystem.wsgi")


def are_replaced(product: Product, old: set[int]) -> bool:
    """Returns whether there are two new processes."""
    now = web_processes(product)
    return len(now) == 2 and now != old and product.ready()


def post(path: str, times: int) -> None:
    """Sends requests, each on a new connection that either web process may accept."""
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


def test_any_web_process_reports_the_requests_of_all(product: Product, messages: str) -> None:
    before = posted(product)

    post(messages, 30)

    # A request is counted after its answer was sent.
    eventually(lambda: posted(product) == before + 30)
    assert {posted(product) for _ in range(20)} == {before + 30}
    metrics = scrape(product)
    took = total(metrics, "chatsystem_request_duration_seconds_sum", route=MESSAGES)
    assert 0 < took < 30 * 20
    assert total(metrics, "chatsystem_request_duration_seconds_bucket", route=MESSAGES, le="+Inf") == before + 30


def test_each_answer_is_counted_under_its_own_route_method_and_status(product: Product, messages: str) -> None:
    # Given answers of each kind on one connection, and so from one process, successes before errors,
    one, key = f"{messages}/1", {"Idempotency-Key": "k"}
    before = counted(product)
    asked: Counter[tuple[str, str, str]] = Counter()
    with requests.Session() as session:

        def ask(method: str, url: str, route: str, status: int, **sent: Any) -> None:
            assert session.request(method, url, timeout=20, **sent).status_code == status
            asked[route, method, str(status)] += 1

        ask("POST", messages, MESSAGES, 201, json={"body": "hello"}, headers=key)
        ask("POST", messages, MESSAGES, 422, json={"body": "another"}, headers=key)
        ask("POST", messages, MESSAGES, 400, json={"body": ""})
        ask("POST", messages, MESSAGES, 415, data=b"x")
        ask("PUT", messages, MESSAGES, 405)
        ask("GET", messages, MESSAGES, 200)
        ask("GET", messages, MESSAGES, 304, headers={"If-None-Match": "*"})
        ask("GET", messages, MESSAGES, 406, headers={"Accept": "text/html"})
        ask("GET", one, MESSAGE, 200)
        ask("PATCH", one, MESSAGE, 200, json={"body": "hello"})
        ask("PATCH", one, MESSAGE, 400, json={})
        ask("GET", f"{one}000", MESSAGE, 404)
        # and those while Redis does not answer,
        product.signal("bin/redis-server ", signal.SIGSTOP)
        try:
            ask("GET", one, MESSAGE, 503)
            ask("POST", messages, MESSAGES, 503, json={"body": "hello"})
        finally:
            product.signal("bin/redis-server ", signal.SIGCONT)

    # then each is counted under its labels, once its answer was sent.
    eventually(lambda: counted(product).total() >= (before + asked).total())
    assert counted(product) == before + asked


def counted(product: Product) -> Counter[tuple[str, str, str]]:
    """Returns the counts of requests for messages, by route, method and status."""
    found: Counter[tuple[str, str, str]] = Counter()
    for family in text_string_to_metric_families(scrape(product)):
        for sample in family.samples:
            if sample.name == ANSWERED and sample.labels["route"] in (MESSAGES, MESSAGE) and sample.value:
                found[sample.labels["route"], sample.labels["method"], sample.labels["status"]] += int(sample.value)
    return found


def test_values_from_clients_do_not_become_labels(product: Product, messages: str) -> None:
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

    eventually(lambda: told() == dict.fromkeys(told(), 1.0))


def test_requests_refused_by_the_server_are_counted(product: Product, messages: str) -> None:
    assert b" 400 " in send(product, b"GET\r\n\r\n")

    eventually(lambda: total(scrape(product), ANSWERED, route="none", method="other", status="400") == 1)


def test_killed_and_replaced_web_processes_lose_no_request(product: Product, messages: str) -> None:
    # Given requests that both processes have answered and counted,
    expected = posted(product) + 20
    post(messages, 20)

    # when one process is killed, a reload replaces both, and all of gunicorn is killed,
    for replace in (
        lambda: kill(min(web_processes(product))),
        lambda: product.signal("chatsystem.wsgi", signal.SIGHUP),
        lambda: [kill(pid) for pid in product.mains("chatsystem.wsgi")],
    ):
        # An answer is sent before it is counted. A process that is killed in between has not counted it.
        eventually(partial(are_counted, product, expected))
        old = web_processes(product)
        replace()
        eventually(partial(are_replaced, product, old))
        post(messages, 5)
        expected += 5

    # then their successors continue their counts, in as many files as there were processes at once.
    eventually(partial(are_counted, product, expected))
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

    # When workers are killed repeatedly while they store,
    for _ in range(4):
        post(messages, 25)
        for pid in product.pids("celery_app worker "):
            kill(pid)

    # then each event is counted once as acknowledged and once as stored.
    eventually(lambda: totals() == (acknowledged + 100, stored + 100))
    drained = total(scrape(product), "chatsystem_drain_batch_events_sum")
    assert drained >= stored + 100
