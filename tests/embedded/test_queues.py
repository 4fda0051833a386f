"""Drains and long tasks run in separate processes, or in a single one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests.support.product import Product, eventually

DRAINS, BACKGROUND = "--queues celery ", "--queues background "


class Chat:
    def __init__(self, product: Product) -> None:
        self.product = product
        token = requests.post(f"{product.url}/applications", json={"name": "ours"}, timeout=20).json()["token"]
        self.token, self.path = token, f"{product.url}/applications/{token}/chats"
        requests.post(self.path, json={"title": "ours"}, timeout=20)

    def post(self, body: str) -> None:
        assert requests.post(f"{self.path}/1/messages", json={"body": body}, timeout=20).status_code == 201

    def stored(self) -> int:
        return int(requests.get(f"{self.path}/1", timeout=20).json()["messages_count"])

    def found(self, word: str) -> int:
        answer = requests.get(f"{self.product.url}/search/{word}?application={self.token}", timeout=20)
        return int(answer.json().get("count", 0))


@pytest.fixture(params=["1", "3"])
def product(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Product]:
    product = Product(tmp_path / "data", settings={"WORKERS": request.param})
    product.start()
    product.wait_until_ready()
    yield product
    product.kill_everything()


def test_each_worker_runs_the_tasks_of_its_queue(product: Product) -> None:
    """A worker's parent process runs no tasks."""

    def processes(words: str) -> int:
        return len(product.pids(words) - product.mains(words))

    chat = Chat(product)

    if product.settings["WORKERS"] == "1":
        # A single process runs all tasks.
        eventually(lambda: (processes("celery_app worker "), processes(BACKGROUND)) == (1, 0))
    else:
        # Of three processes, one runs the long tasks, and two only drain.
        eventually(lambda: (processes(DRAINS), processes(BACKGROUND)) == (2, 1))
        # Given that the former is paused once it has created the index,
        chat.post("first")
        eventually(lambda: chat.found("first") == 1)
        with product.standing_still(BACKGROUND):
            # then the others still store, and the stored message is found when it resumes.
            chat.post("hello")
            eventually(lambda: chat.stored() == 2)
            assert chat.found("hello") == 0
    chat.post("hello again")
    eventually(lambda: chat.found("again") == 1)
