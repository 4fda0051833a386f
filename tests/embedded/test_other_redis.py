"""The Redis of `make run` is replaced by other servers, as docs/redis.md says."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import requests

from tests.docs.pages import ROOT, blocks
from tests.docs.shell import Shell
from tests.support.product import Product, eventually
from tests.support.redis_servers import Server

MOVE, START = blocks(ROOT / "docs/redis.md")
NAMED = [f"redis://{name}.internal:6379/0" for name in ("one", "two", "three")]
WORKERS = "celery_app worker "


@pytest.fixture
def product(tmp_path: Path) -> Iterator[Product]:
    product = Product(tmp_path / "data")
    product.start()
    product.wait_until_ready()
    yield product
    product.kill_everything()


@pytest.fixture(params=[1, 3])
def new(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[list[str]]:
    """The URLs of new servers."""
    with ExitStack() as running:
        servers = [Server(tmp_path / f"redis{number}") for number in range(request.param)]
        for server in servers:
            running.callback(server.kill)
        yield [f"redis://127.0.0.1:{server.port}/0" for server in servers]


def test_nothing_that_waits_in_it_is_lost(product: Product, new: list[str], tmp_path: Path) -> None:
    # Given messages that wait in the Redis of `make run`,
    applications = [
        requests.post(f"{product.url}/applications", json={"name": "ours"}, timeout=20).json()["token"]
        for _ in range(8)
    ]

    def post(body: str, key: str) -> set[tuple[int, int]]:
        """Posts to each application, and returns the statuses and numbers."""
        answers = [
            requests.post(
                f"{product.url}/applications/{token}/chats/1/messages",
                json={"body": body},
                headers={"Idempotency-Key": key},
                timeout=20,
            )
            for token in applications
        ]
        return {(answer.status_code, answer.json().get("number", 0)) for answer in answers}

    for token in applications:
        requests.post(f"{product.url}/applications/{token}/chats", json={"title": "ours"}, timeout=20)
    assert post("stored", "a") == {(201, 1)}
    with product.standing_still(WORKERS):
        assert post("waiting", "b") == {(201, 2)}
        # when the partitions are moved, word for word,
        page = MOVE.text.replace(",".join(NAMED), ",".join(new))
        assert page != MOVE.text
        shell = Shell(tmp_path, product.environ(), cwd=ROOT)
        printed = shell.type(page)
        assert MOVE.printed is not None
        before, after = MOVE.printed.strip().split("…")
        assert printed.strip().startswith(before)
        assert printed.strip().endswith(after)
        # then the running product accepts nothing,
        assert post("refused", "c") == {(503, 0)}
    assert product.stop()[0] == 0
    # and with the new servers everything is there once, and numbers and receipts go on.
    assert START.settings is not None
    name, _, value = shell.type(f"echo {START.settings}").strip().partition("=")
    shell.close()
    product.settings = {**product.settings, name: value}
    product.start()
    product.wait_until_ready()
    assert post("waiting", "b") == {(201, 2)}
    assert post("next", "d") == {(201, 3)}
    chats = [f"{product.url}/applications/{token}/chats/1" for token in applications]
    eventually(lambda: all(requests.get(chat, timeout=20).json()["messages_count"] == 3 for chat in chats))
    for chat in chats:
        found = requests.get(f"{chat}/messages", timeout=20).json()["results"]
        assert [each["body"] for each in found] == ["stored", "waiting", "next"]
