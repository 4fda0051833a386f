"""A port accepts connections only while somebody takes them: otherwise a proxy waits here, and asks no other host."""

from __future__ import annotations

import errno
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.product import BASE_DIR, PATIENCE, Product, eventually
from tests.support.wire import Client, request

Start = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def product(tmp_path: Path) -> Product:
    return Product(tmp_path)


@pytest.fixture
def start(product: Product) -> Iterator[Start]:
    """Starts gunicorn with the product's configuration and a stub application."""
    started = []

    def start(**environ: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "gunicorn", "--config", "python:chatsystem.embedded.gunicorn"]
        # Longer than the tests wait for anything.
        command += ["--graceful-timeout", "600"]
        started.append(
            subprocess.Popen(
                [*command, "tests.support.stub_app"],
                cwd=BASE_DIR,
                env={**product.environ(), **environ},
                stderr=subprocess.DEVNULL,
            )
        )
        return started[-1]

    yield start
    for server in started:
        server.kill()
        server.wait()


def refuses(port: int) -> bool:
    with socket.socket() as probe:
        # The queue of a port fills up while a process listens and accepts no connection.
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == errno.ECONNREFUSED


def accepts(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_a_port_is_closed_until_a_process_can_answer(product: Product, start: Start, tmp_path: Path) -> None:
    # Given web processes that load the application,
    start(LOADING=str(tmp_path))
    eventually((tmp_path / "begun").exists)

    # then the port is closed, and it opens when they have loaded it.
    assert refuses(product.port)
    (tmp_path / "ended").touch()
    eventually(lambda: accepts(product.port))
    with Client(product.port) as client:
        assert client.ask(request("GET", "/")).status == 200


def test_a_port_is_closed_while_the_last_requests_end(product: Product, start: Start, tmp_path: Path) -> None:
    # Given a request that is running,
    server = start(WEB_PROCESSES="1")
    eventually(lambda: accepts(product.port))
    with Client(product.port) as running:
        running.socket.sendall(request("GET", "/", None, f"X-Until: {tmp_path / 'until'}"))
        # (the process takes connections in turn)
        with Client(product.port) as other:
            assert other.ask(request("GET", "/")).status == 200

        # when the server gets SIGTERM, then it accepts no further connection, and answers the running request.
        server.send_signal(signal.SIGTERM)
        eventually(lambda: refuses(product.port))
        (tmp_path / "until").touch()
        assert running.answer().status == 200
    assert server.wait(PATIENCE) == 0
