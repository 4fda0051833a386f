"""Connections spread over the web processes, so that a few which are kept alive keep all of them busy."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest

from chatsystem import gunicorn_config, spread
from chatsystem.server import ApiWorker
from tests.api.wire import Client, Server, request
from tests.embedded.product import established, eventually, sockets

ASK = request("GET", "/health/live")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path / "server.log")
    try:
        for pid in server.workers():
            eventually(partial(takes_clients, server, pid))
        yield server
    finally:
        server.stop()


def connect(server: Server, count: int, kept: ExitStack) -> None:
    """So many clients at once ask for something, and keep their connections open."""
    clients = [kept.enter_context(Client(server.port)) for _ in range(count)]
    for client in clients:
        client.socket.sendall(ASK)
    for client in clients:
        assert client.answer().status == 200


def held(server: Server) -> dict[int, int]:
    """How many connections each process holds, by its id."""
    of_server = {inode for local, _, inode in established() if local == server.port}
    return {pid: len(sockets({pid}) & of_server) for pid in server.workers()}


def takes_clients(server: Server, pid: int) -> bool:
    with ExitStack() as kept:
        connect(server, 1, kept)
        return held(server).get(pid) == 1


def test_clients_that_come_at_once_and_stay_are_shared_out_evenly(server: Server) -> None:
    for _ in range(5):
        with ExitStack() as kept:
            # When sixteen clients connect at once,
            connect(server, 16, kept)
            # then no process has much more of them than the other.
            assert max(held(server).values()) <= 10
        eventually(lambda: not any(held(server).values()))


def test_a_process_that_was_killed_counts_no_more() -> None:
    # Given one that holds less than we do,
    ours, theirs = 1, 2
    spread.tell(ours, 1)
    spread.tell(theirs, 0)
    assert spread.is_another_freer(ours)
    # when gunicorn's master finds that it is gone,
    killed = ApiWorker.__new__(ApiWorker)
    killed.age = theirs
    gunicorn_config.child_exit(None, killed)
    # then nothing is left to it.
    assert not spread.is_another_freer(ours)


def test_a_process_that_hangs_keeps_nobody_waiting_for_it(server: Server) -> None:
    with ExitStack() as kept:
        # Given a process that holds the fewest connections, and stands still,
        hanging = min(server.workers())
        os.kill(hanging, signal.SIGSTOP)
        try:
            # when clients connect, then the other one answers them all.
            connect(server, 16, kept)
            assert held(server)[hanging] == 0
        finally:
            os.kill(hanging, signal.SIGCONT)
