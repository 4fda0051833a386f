"""The JSON logs of `make run` have one shape, carry a request's id to the worker, and contain no texts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from tests.support.product import Product, eventually

PROCESSES = ("web", "worker", "beat")
#: The fields of every line, and those that a line may have.
COMMON = {"time", "level", "logger", "message"}
FURTHER = {"request_id", "method", "route", "status", "statement", "partitions", "events", "seconds", "exception"}

SECRETS = {"name": "Nebukadnezar", "title": "Ozymandias", "body": "Rumpelstiltskin", "query": "rumpelstilts"}


@pytest.fixture(scope="module")
def product(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    """A product that logs everything as slow, with one process for all tasks."""
    slow = {f"SLOW_{what}_SECONDS": "0" for what in ("REQUEST", "QUERY", "DRAIN")}
    running = Product(tmp_path_factory.mktemp("logs") / "data", settings={**slow, "LOG_FORMAT": "json", "WORKERS": "1"})
    running.start()
    running.wait_until_ready()
    yield running
    running.kill_everything()


def lines(product: Product, *processes: str) -> list[dict[str, Any]]:
    """Returns the logged objects, without an unfinished last line."""
    texts = [(product.data_dir / "logs" / f"{process}.log").read_text() for process in processes]
    return [json.loads(line) for text in texts for line in text[: text.rfind("\n") + 1].splitlines()]


def of_request(product: Product, request_id: str, process: str, message: str) -> list[dict[str, Any]]:
    found = [line for line in lines(product, process) if line.get("request_id") == request_id]
    return [line for line in found if line["message"].startswith(message)]


def post(product: Product, path: str, request_id: str, **fields: str) -> requests.Response:
    response = requests.post(f"{product.url}{path}", json=fields, headers={"X-Request-ID": request_id}, timeout=20)
    assert response.status_code == 201, response.text
    assert response.headers["X-Request-ID"] == request_id
    return response


def test_a_requests_id_is_in_its_answer_and_in_the_lines_of_web_and_worker(product: Product) -> None:
    # When an application is posted with an id,
    post(product, "/applications", "the.request-1", name="ours")

    # then web's line of the request has the id, once supervisord has written it,
    eventually(lambda: bool(of_request(product, "the.request-1", "web", "slow request")))
    [slow] = of_request(product, "the.request-1", "web", "slow request")
    assert (slow["method"], slow["route"], slow["status"]) == ("POST", "applications", 201)
    assert slow["seconds"] > 0
    # and so have the worker's lines of the drain that the request triggered.
    eventually(lambda: bool(of_request(product, "the.request-1", "worker", "slow drain")))
    drain = of_request(product, "the.request-1", "worker", "slow drain")[0]
    assert drain["events"] == 1
    assert drain["seconds"] > 0
    assert of_request(product, "the.request-1", "worker", "slow query")


def test_tasks_without_a_request_have_no_id(product: Product) -> None:
    """The id of a drain does not stay with the process: sweeps of beat have none."""
    post(product, "/applications", "the.request-2", name="ours")
    eventually(lambda: bool(of_request(product, "the.request-2", "worker", "slow drain")))
    seen = len(lines(product, "worker"))

    eventually(lambda: any("request_id" not in line for line in lines(product, "worker")[seen:]))


def test_every_line_has_one_shape_without_tokens_and_texts(product: Product) -> None:
    # Given requests of every kind that leave log lines, one of them with invalid HTTP,
    url = product.url
    token = post(product, "/applications", "r1", name=SECRETS["name"]).json()["token"]
    post(product, f"/applications/{token}/chats", "r2", title=SECRETS["title"])
    post(product, f"/applications/{token}/chats/1/messages", "r3", body=SECRETS["body"])
    for path in (f"/search/{SECRETS['query']}?application={token}", f"/applications/{token}", f"/nowhere/{token}"):
        requests.get(f"{url}{path}", timeout=20)
    requests.patch(f"{url}/applications/{token}", json={"name": 2 * SECRETS["name"]}, timeout=20)
    requests.post(f"{url}/applications/{token}/chats", json={"title": 99 * SECRETS["title"]}, timeout=20)
    requests.get(f"{url}/applications/{token}/chats", headers={"X-Long": 9_000 * "x"}, timeout=20)
    # A request hints no drain while the hint of another one waits.
    eventually(
        lambda: (
            post(product, "/applications", "the.last", name="ours").ok
            and bool(of_request(product, "the.last", "worker", "slow drain"))
        )
    )

    # then each line is an object with these fields,
    for line in lines(product, *PROCESSES):
        assert line.keys() >= COMMON, line
        assert line.keys() <= COMMON | FURTHER, line
    loggers = {line["logger"].split(".")[0] for line in lines(product, *PROCESSES)}
    assert loggers >= {"chatsystem", "gunicorn", "celery"}
    # and none contains a token or a client's text.
    for log in (product.data_dir / "logs").iterdir():
        text = log.read_text().lower()
        assert not [secret for secret in (token, *SECRETS.values()) if secret.lower() in text], log.name
