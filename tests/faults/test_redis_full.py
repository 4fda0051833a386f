"""A full state Redis accepts nothing more. Draining what it has accepted makes room again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import requests

from tests.support import environment
from tests.support.product import Product, eventually
from tests.support.services.redis import Redis

#: 3 MB, which Redis holds twice until it is stored: in the log and in the pending view.
BATCH = [{"body": "x" * 15_000}] * 200


@pytest.fixture
def full_soon(tmp_path: Path) -> Iterator[Product]:
    """A product with a state Redis of 32 MB. Cache and broker are in another Redis."""
    settings = {"WORKERS": "2"}
    with ExitStack() as ends:
        for name, limit in (("REDIS_URL", "32mb"), ("CACHE_URL", "0")):
            server = Redis(tmp_path / name, options=["--maxmemory", limit])
            server.start()
            ends.callback(server.kill)
            settings[name] = f"redis://127.0.0.1:{server.port}/0"
        settings["CELERY_BROKER_URL"] = settings["CACHE_URL"].removesuffix("0") + "1"
        if environment.server:
            settings["DATABASE_URL"] = environment.server.new_database("product")
        product = Product(tmp_path / "data", settings=settings)
        product.start()
        ends.callback(product.kill_everything)
        product.wait_until_ready()
        yield product


def test_a_full_redis_refuses_what_it_cannot_hold_and_takes_more_once_the_rest_is_stored(full_soon: Product) -> None:
    # Given a chat, and paused workers without running tasks,
    product, api = full_soon, requests.Session()
    token = api.post(f"{product.url}/applications", json={"name": "full"}).json()["token"]
    chat = f"{product.url}/applications/{token}/chats/1"
    assert api.post(f"{product.url}/applications/{token}/chats", json={"title": "full"}).status_code == 201
    eventually(lambda: api.get(f"{product.url}/applications/{token}").json()["chats_count"] == 1)
    eventually(lambda: "chatsystem_outbox_entries 0.0" in api.get(f"{product.url}/metrics").text)
    with product.standing_still("worker"):
        # when messages are posted until no more are accepted,
        acknowledged = 0
        while (answer := api.post(f"{chat}/messages", json=BATCH, timeout=30)).status_code == 201:
            acknowledged += len(BATCH)
            assert acknowledged < 10_000

        # then the answer is a 503 with Retry-After, readiness reports it, and reads still work.
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
        assert not product.ready()
        assert api.get(f"{chat}/messages/{acknowledged}").status_code == 200
        assert api.get(f"{chat}/messages/{acknowledged + 1}").status_code == 404

    # And when the workers resume, everything is stored, and the next number follows.
    eventually(lambda: api.get(chat).json()["messages_count"] == acknowledged)
    eventually(product.ready)
    answer = api.post(f"{chat}/messages", json={"body": "after it"})
    assert (answer.status_code, answer.json()["number"]) == (201, acknowledged + 1)
