"""A rolling deploy under load, one process after the other, fails no request and loses nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
import requests

from tests.deploy.proxy import CLIENT_PATIENCE, NameServer, ensure_nginx, listens, nginx
from tests.faults.load import AckLog, Load, more_acknowledgements
from tests.faults.settled import check_when_settled
from tests.support import environment
from tests.support.harness import in_threads
from tests.support.ports import free_port
from tests.support.product import BASE_DIR, PATIENCE, Product, children, eventually, kill

SEED = 20_261_125

#: Containers share a database server. On SQLite the same steps would add nothing but minutes to `make test`.
of_containers = pytest.mark.skipif(not environment.server, reason="part of make test-mariadb")

#: Posts of each client.
POSTS = 150


class Deployment:
    """Processes next to the product's own, each started as in a container of docker-compose.yml."""

    def __init__(self, product: Product, names: NameServer) -> None:
        self.product, self.names = product, names
        self.web_port = free_port()
        self.containers: list[subprocess.Popen[bytes]] = []

    @property
    def log(self) -> Path:
        """The address of the newest web process."""
        return self.product.data_dir / f"container-{len(self.containers)}.log"

    def web(self) -> tuple[str, subprocess.Popen[bytes]]:
        """Starts one more web process on its own address, and adds it to the name server."""
        address = f"127.0.0.{len(self.containers) + 2}"
        config = ["--config", "python:chatsystem.server.gunicorn", "--bind", f"{address}:{self.web_port}"]
        container = self._run("gunicorn", *config, "chatsystem.wsgi")
        eventually(lambda: listens(self.web_port, address))
        self.names.addresses = (*self.names.addresses, address)
        return address, container

    def worker(self) -> subprocess.Popen[bytes]:
        quiet = ["--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel", "INFO"]
        container = self._run("celery", "--app", "chatsystem.celery", "worker", "--concurrency", "2", *quiet)
        eventually(lambda: b" ready." in self.log.read_bytes())
        return container

    def ended(self, address: str) -> None:
        """Removes the address from the name server. Docker does so when a container has ended, not before."""
        self.names.addresses = tuple(known for known in self.names.addresses if known != address)

    def _run(self, *words: str) -> subprocess.Popen[bytes]:
        environ = {**self.product.environ(), "DJANGO_SETTINGS_MODULE": "chatsystem.settings"}
        with (self.product.data_dir / f"container-{len(self.containers) + 1}.log").open("wb") as output:
            container = subprocess.Popen(
                [sys.executable, "-m", *words], cwd=BASE_DIR, env=environ, stdout=output, stderr=output
            )
        self.containers.append(container)
        return container


@pytest.fixture
def patient() -> bool:
    return True


@pytest.fixture
def names() -> Iterator[NameServer]:
    names = NameServer()
    yield names
    names.close()


@pytest.fixture
def deployment(product: Product, names: NameServer) -> Iterator[Deployment]:
    """The extra processes. Their children end with the product, since they have the same DATA_DIR."""
    ensure_nginx()
    product.wait_until_ready()
    deployment = Deployment(product, names)
    yield deployment
    for container in deployment.containers:
        container.kill()
        container.wait()


@contextmanager
def proxied(deployment: Deployment, folder: Path, log: AckLog) -> Iterator[Load]:
    """Load through the proxy."""
    web, resolver = f"web:{deployment.web_port}", deployment.names.address
    with nginx(folder, web, resolver) as port, load_without_a_failure(f"http://127.0.0.1:{port}", log) as load:
        yield load


@contextmanager
def load_without_a_failure(base: str, log: AckLog) -> Iterator[Load]:
    """Eight clients write during the block. Each request must be answered without a 5xx."""
    load = Load(base, log, clients=8, seed=SEED, timeout=CLIENT_PATIENCE)
    load.start()
    try:
        more_acknowledgements(log, 100)
        yield load
        more_acknowledgements(log, 100)
    finally:
        load.stop()
    assert log.seen.keys() <= {"sent", "ack"}, log.failures


def assert_nothing_is_wrong(product: Product, ack_log: Path) -> None:
    violations, compared = check_when_settled(product, ack_log)
    assert violations == []
    assert compared["acknowledged"] >= 300


def _replaced(old: set[int], processes: Callable[[], set[int]]) -> bool:
    now = processes()
    return bool(now) and not now & old


@of_containers
def test_no_request_fails_while_web_and_worker_are_replaced(deployment: Deployment, tmp_path: Path) -> None:
    # Given a web process and a worker next to the product's own, and a proxy in front of the web process,
    log = AckLog(tmp_path / "acknowledged.jsonl")
    address, web = deployment.web()
    worker = deployment.worker()
    # when each is replaced twice under load, the new one first,
    with proxied(deployment, tmp_path, log) as load:
        for _ in range(2):
            old_address, old_web, old_worker = address, web, worker
            address, web = deployment.web()
            # (once the proxy sends no request to the old one alone: it could not send it again)
            eventually(deployment.names.is_known)
            with load.paused():
                pass
            old_web.terminate()
            assert old_web.wait(PATIENCE) == 0
            deployment.ended(old_address)
            worker = deployment.worker()
            old_worker.terminate()
            assert old_worker.wait(PATIENCE) == 0

    # then no request has failed, and the checker finds nothing.
    assert_nothing_is_wrong(deployment.product, tmp_path / "acknowledged.jsonl")


@of_containers
def test_no_request_fails_or_counts_twice_when_web_processes_are_killed(deployment: Deployment, tmp_path: Path) -> None:
    """The proxy resends unanswered requests to another process with the same id. No client sends anything twice."""
    # Given five web processes behind a proxy, and a chat,
    webs = [deployment.web()[1] for _ in range(5)]
    with nginx(tmp_path, f"web:{deployment.web_port}", deployment.names.address) as port:
        base = f"http://127.0.0.1:{port}"
        token = requests.post(f"{base}/applications", json={"name": "ours"}, timeout=CLIENT_PATIENCE).json()["token"]
        requests.post(f"{base}/applications/{token}/chats", json={"title": "a chat"}, timeout=CLIENT_PATIENCE)
        messages = f"{base}/applications/{token}/chats/1/messages"

        # when all but one are killed while eight clients post without an Idempotency-Key,
        answers: list[requests.Response] = []

        def post(client: int) -> None:
            with requests.Session() as session:
                for _ in range(POSTS):
                    answers.append(session.post(messages, json={"body": f"by {client}"}, timeout=CLIENT_PATIENCE))

        def kill_all_but_one(_: int) -> None:
            for i, web in enumerate(webs[1:], start=1):
                enough = i * 8 * POSTS // len(webs)
                eventually(lambda: len(answers) >= enough)  # noqa: B023
                for pid in [web.pid, *children(web.pid)]:
                    kill(pid)

        in_threads(lambda client: post(client) if client else kill_all_but_one(client), range(9))

        # then each post is answered, and none is written twice.
        assert {answer.status_code for answer in answers} == {201}
        numbers = sorted(answer.json()["number"] for answer in answers)
        assert numbers == list(range(1, 8 * POSTS + 1))
        [newest] = requests.get(f"{messages}?order=desc&limit=1", timeout=CLIENT_PATIENCE).json()["results"]
        assert newest["number"] == 8 * POSTS


def test_no_request_fails_while_make_run_takes_new_code_in(product: Product, tmp_path: Path) -> None:
    """Without a proxy: on SIGHUP, gunicorn keeps the port and starts new web processes. A worker ends in order."""
    product.wait_until_ready()
    log = AckLog(tmp_path / "acknowledged.jsonl")
    [master] = product.mains("chatsystem.wsgi")
    with load_without_a_failure(product.url, log):
        for _ in range(3):
            web, workers = children(master), product.mains("celery_app worker ")
            os.kill(master, signal.SIGHUP)
            for worker in workers:
                os.kill(worker, signal.SIGTERM)
            eventually(partial(_replaced, web, lambda: children(master)))
            eventually(partial(_replaced, workers, lambda: product.mains("celery_app worker ")))
            more_acknowledgements(log, 100)

    assert_nothing_is_wrong(product, tmp_path / "acknowledged.jsonl")
