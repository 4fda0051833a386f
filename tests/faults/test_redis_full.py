"""A state Redis that is full: nothing more is accepted, what was is stored, and that makes room again."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import requests

from chatsystem.data_dir import DataDir
from chatsystem.embedded import redis_server
from tests import environment
from tests.embedded.product import Product, eventually, parent

#: 3 MB, twice in Redis until it is stored: in the log and in the pending view.
BATCH = [{"body": "x" * 15_000}] * 200


@pytest.fixture
def full_soon(tmp_path: Path) -> Iterator[Product]:
    """A product whose state Redis takes 32 MB; cache and broker are another one."""
    settings = {"WORKERS": "2"}
    with ExitStack() as ends:
        for name, limit in (("REDIS_URL", "32mb"), ("CACHE_URL", "0")):
            folder = DataDir(tmp_path / name)
            for path in (folder.redis_socket.parent, folder.redis):
                path.mkdir(parents=True)
            server = subprocess.Popen([*redis_server.command(folder), "--maxmemory", limit], stdout=subprocess.DEVNULL)
            ends.callback(server.wait)
            ends.callback(server.kill)
            settings[name] = f"unix://{folder.redis_socket}?db=0"
        settings["CELERY_BROKER_URL"] = settings["CACHE_URL"].replace("db=0", "db=1")
        if environment.server:
            settings["DATABASE_URL"] = environment.server.new_database("product")
        product = Product(tmp_path / "data", settings=settings)
        product.start()
        ends.callback(product.kill_everything)
        product.wait_until_ready()
        yield product


def to_workers(product: Product, number: signal.Signals) -> None:
    # The parents first: one that goes on sees its children as they are.
    for pid in sorted(product.pids("worker"), key=lambda pid: parent(pid) in product.pids("worker")):
        os.kill(pid, number)


def test_a_full_redis_refuses_what_it_cannot_hold_and_takes_more_once_the_rest_is_stored(full_soon: Product) -> None:
    # Given a chat, and workers that stand still with nothing in hand,
    product, api = full_soon, requests.Session()
    token = api.post(f"{product.url}/applications", json={"name": "full"}).json()["token"]
    chat = f"{product.url}/applications/{token}/chats/1"
    assert api.post(f"{product.url}/applications/{token}/chats", json={"title": "full"}).status_code == 201
    eventually(lambda: api.get(f"{product.url}/applications/{token}").json()["chats_count"] == 1)
    eventually(lambda: "chatsystem_outbox_entries 0.0" in api.get(f"{product.url}/metrics").text)
    to_workers(product, signal.SIGSTOP)

    # when messages are posted until no more are accepted,
    acknowledged = 0
    while (answer := api.post(f"{chat}/messages", json=BATCH, timeout=30)).status_code == 201:
        acknowledged += len(BATCH)
        assert acknowledged < 10_000

    # then that is a 503 that tells when to come back, readiness says so, and reads go on.
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
    assert not product.ready()
    assert api.get(f"{chat}/messages/{acknowledged}").status_code == 200
    assert api.get(f"{chat}/messages/{acknowledged + 1}").status_code == 404

    # And once the workers go on, all of it is stored, and the next number is the one after it.
    to_workers(product, signal.SIGCONT)
    eventually(lambda: api.get(chat).json()["messages_count"] == acknowledged)
    eventually(product.ready)
    answer = api.post(f"{chat}/messages", json={"body": "after it"})
    assert (answer.status_code, answer.json()["number"]) == (201, acknowledged + 1)
