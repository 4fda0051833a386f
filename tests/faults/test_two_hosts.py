"""Two hosts of one database: with one Redis both serve, with a Redis each only one acknowledges writes."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests

from chatsystem.writelog import ownership
from tests.deploy.proxy import CLIENT_PATIENCE, ensure_nginx, nginx_of_hosts
from tests.support import environment
from tests.support.product import PATIENT, PATIENT_DATABASE, Product, eventually
from tests.support.redis_servers import Server

#: Posts of each client.
POSTS = 60

StartHost = Callable[..., Product]


@pytest.fixture
def host(tmp_path: Path) -> Iterator[StartHost]:
    """Starts a host on the shared database."""
    assert environment.server
    database = environment.server.new_database("product") + PATIENT_DATABASE
    hosts: list[Product] = []

    def start(name: str, **settings: str) -> Product:
        hosts.append(Product(tmp_path / name, settings={"DATABASE_URL": database, **settings}))
        hosts[-1].start()
        return hosts[-1]

    yield start
    for one in hosts:
        one.kill_everything()


class Posts:
    """The answers to clients of both hosts that post messages to one chat."""

    def __init__(self, base: str) -> None:
        self.acknowledged: list[tuple[int, str]] = []
        #: Why the others were not acknowledged.
        self.refused: list[str] = []
        token = requests.post(f"{base}/applications", json={"name": "ours"}, timeout=20).json()["token"]
        requests.post(f"{base}/applications/{token}/chats", json={"title": "a chat"}, timeout=20).raise_for_status()
        self.path = f"/applications/{token}/chats/1/messages"

    def post(self, base: str, text: str) -> bool:
        """Posts a message. Returns whether it was acknowledged."""
        try:
            answer = requests.post(f"{base}{self.path}", json={"body": text}, timeout=CLIENT_PATIENCE)
        except requests.RequestException as error:
            self.refused.append(f"{time.strftime('%X')} {error!r}")
            return False
        if answer.status_code == 201:
            self.acknowledged.append((answer.json()["number"], text))
            return True
        assert answer.status_code == 503, answer.text
        self.refused.append(f"{time.strftime('%X')} {answer.text}")
        return False

    @contextmanager
    def meanwhile(self, *bases: str) -> Iterator[None]:
        """Runs two clients for each host, which post until the block ends."""
        stopping = threading.Event()

        def run(base: str, client: int) -> None:
            number = 0
            while not stopping.is_set():
                number += 1
                self.post(base, f"{base} {client} {number} {time.monotonic()}")
                time.sleep(0.02)

        threads = [threading.Thread(target=run, args=(base, client)) for base in bases for client in range(2)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            stopping.set()
            for thread in threads:
                thread.join()

    def more(self, number: int) -> None:
        wanted = len(self.acknowledged) + number
        eventually(lambda: len(self.acknowledged) >= wanted)

    def check(self, base: str) -> None:
        """Checks that no number was acknowledged twice, and that each message has its acknowledged text."""
        numbers = [number for number, _ in self.acknowledged]
        assert len(set(numbers)) == len(numbers), "numbers were acknowledged twice"
        chat = base + self.path.removesuffix("/messages")
        eventually(lambda: requests.get(chat, timeout=20).json().get("messages_count", 0) >= max(numbers))
        stored: dict[int, str] = {}
        while page := self._page(base, after=max(stored, default=0)):
            stored |= page
        wrong = {number: text for number, text in self.acknowledged if stored.get(number) != text}
        assert wrong == {}
        assert sorted(stored) == list(range(1, len(stored) + 1))
        assert len(set(stored.values())) == len(stored), "a message was stored twice"

    def _page(self, base: str, after: int) -> dict[int, str]:
        rows = requests.get(f"{base}{self.path}?limit=1000&after={after}", timeout=20).json()["results"]
        return {row["number"]: row["body"] for row in rows}


def state(product: Product) -> str:
    try:
        return product.states()["state"]
    except requests.RequestException:
        return "away"


def is_superseded(product: Product) -> bool:
    return "superseded" in state(product)


def only_ready(one: Product, other: Product) -> None:
    """Asserts which host is ready. A slow one is asked again; the other must never be ready."""
    eventually(one.ready)
    assert not other.ready()


def owner_and_another(host: StartHost) -> tuple[Product, Product, Posts]:
    """The owner's host, a second host whose Redis waits, and a chat of the first."""
    first = host("first")
    first.wait_until_ready()
    posts = Posts(first.url)
    second = host("second")
    eventually(lambda: is_superseded(second))
    return first, second, posts


def test_a_host_that_is_killed_whole_under_load_loses_nothing(host: StartHost, tmp_path: Path) -> None:
    """As in docs/howto/several-hosts.md. The proxy resends what the killed host had not answered."""
    ensure_nginx()
    # Given two hosts behind the proxy of deploy/nginx, with one state Redis and one key,
    state = Server(tmp_path / "state")
    try:
        shared = {"REDIS_URL": f"redis://127.0.0.1:{state.port}/0", "SECRET_KEY": "k" * 64, **PATIENT}
        first, second = host("first", **shared), host("second", **shared)
        first.wait_until_ready()
        second.wait_until_ready()
        with nginx_of_hosts(tmp_path, [first.port, second.port]) as port:
            proxy = f"http://127.0.0.1:{port}"
            posts = Posts(proxy)
            # when all processes of the first are killed while clients write, and it comes back later,
            with posts.meanwhile(*[proxy] * 4):
                posts.more(5 * POSTS)
                first.kill_everything()
                posts.more(5 * POSTS)
                first.start()
                first.wait_until_ready()
                posts.more(5 * POSTS)

            # then every post was answered, and both hosts show what was acknowledged, once.
            assert posts.refused == []
            posts.check(first.url)
            posts.check(second.url)
    finally:
        state.kill()


def test_of_two_hosts_that_forgot_redis_url_only_one_acknowledges_and_the_other_says_why(host: StartHost) -> None:
    # Given a host, and a second one on the same database with its own Redis,
    first, second, posts = owner_and_another(host)

    # when clients write through both, then only the first is ready and acknowledges,
    with posts.meanwhile(first.url, second.url):
        posts.more(POSTS)
        only_ready(first, second)
    assert not any(text.startswith(second.url) for _, text in posts.acknowledged)
    posts.check(first.url)

    # and when the first one is gone, the second takes over and continues after the last number.
    first.kill_everything()
    second.wait_until_ready()
    with posts.meanwhile(second.url):
        posts.more(POSTS)
    posts.check(second.url)
    # When the first one is back with its old data, it waits.
    first.start()
    eventually(lambda: is_superseded(first))
    only_ready(second, first)


def test_a_restart_of_the_owner_leaves_it_the_owner_though_another_one_waits(host: StartHost) -> None:
    first, second, posts = owner_and_another(host)

    with posts.meanwhile(first.url, second.url):
        posts.more(POSTS)
        # (on a slow machine the restart may take longer than the other one waits, which is not a fault)
        second.signal("celery_app", signal.SIGSTOP)
        first.signal("redis-server", signal.SIGKILL)
        posts.more(POSTS)
        eventually(first.ready)
        second.signal("celery_app", signal.SIGCONT)
        only_ready(first, second)

    posts.check(first.url)


def test_an_owner_whose_workers_are_stopped_stays_the_owner_while_it_accepts(host: StartHost) -> None:
    """The owner's web processes confirm the ownership then. Otherwise it would accept writes that nobody stores."""
    # Given an owner, and another Redis that waits,
    first, second, posts = owner_and_another(host)

    # when all workers of the owner are paused for longer than the other one waits,
    with posts.meanwhile(first.url):
        first.signal("celery_app", signal.SIGSTOP)
        time.sleep(1.5 * ownership.TAKE_OVER_AFTER)
        posts.more(POSTS)
        assert not second.ready()
        first.signal("celery_app", signal.SIGCONT)

    # then its acknowledged writes are stored.
    posts.check(first.url)


def test_a_host_that_still_reaches_the_old_primary_after_a_failover_acknowledges_nothing(
    host: StartHost, tmp_path: Path
) -> None:
    # Given a host on a primary that acknowledges only what a replica has,
    primary = Server(tmp_path / "primary")
    replica = Server(tmp_path / "replica", primary)
    try:
        eventually(lambda: replica.client.info("replication")["master_link_status"] == "up")
        old = host("old", REDIS_URL=f"redis://127.0.0.1:{primary.port}/0", REDIS_REPLICAS="1")
        old.wait_until_ready()
        posts = Posts(old.url)
        with posts.meanwhile(old.url):
            posts.more(POSTS)
        # when the replica is promoted and a new host uses it, while the old host still reaches the old primary,
        replica.client.replicaof("NO", "ONE")
        new = host("new", REDIS_URL=f"redis://127.0.0.1:{replica.port}/0")
        with posts.meanwhile(old.url, new.url):
            new.wait_until_ready()
            eventually(lambda: is_superseded(old))
            posts.more(POSTS)
            # then only the new host is ready,
            only_ready(new, old)
        # and every number has its acknowledged text.
        posts.check(new.url)
        assert any(text.startswith(new.url) for _, text in posts.acknowledged)
    finally:
        primary.kill()
        replica.kill()
