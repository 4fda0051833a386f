"""Kept connections are balanced over the web processes, so that a few of them keep all processes busy."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest

from chatsystem.server import balance, gunicorn
from chatsystem.server.worker import ApiWorker
from tests.support.product import established, eventually, sockets
from tests.support.wire import Client, Server, request

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
    """Opens `count` connections at once, sends a request on each, and keeps them open."""
    clients = [kept.enter_context(Client(server.port)) for _ in range(count)]
    for client in clients:
        client.socket.sendall(ASK)
    for client in clients:
        assert client.answer().status == 200


def held(server: Server) -> dict[int, int]:
    """Returns how many connections each process holds, by process id."""
    of_server = {inode for local, _, inode in established() if local == server.port}
    return {pid: len(sockets({pid}) & of_server) for pid in server.workers()}


def takes_clients(server: Server, pid: int) -> bool:
    with ExitStack() as kept:
        connect(server, 1, kept)
        return held(server).get(pid) == 1


def test_clients_that_connect_at_once_and_stay_are_balanced(server: Server) -> None:
    most = []
    for _ in range(20):
        with ExitStack() as kept:
            # When eight clients connect at once,
            connect(server, 8, kept)
            most.append(max(held(server).values()))
        eventually(lambda: not any(held(server).values()))
    # then the busier process holds hardly more than half of them. Without the balance it holds 7 of 8. One round says
    # nothing: the machine may take longer to wake a process than the other one waits for it.
    assert sum(most) / len(most) <= 6


def test_a_killed_process_no_longer_counts() -> None:
    # Given another process that holds fewer connections,
    ours, theirs = 1, 2
    balance.report(ours, 1)
    balance.report(theirs, 0)
    assert balance.is_another_freer(ours)
    # when gunicorn's master finds it gone,
    killed = ApiWorker.__new__(ApiWorker)
    killed.age = theirs
    gunicorn.child_exit(None, killed)
    # then no connection is left to it.
    assert not balance.is_another_freer(ours)


def test_a_hanging_process_keeps_no_client_waiting(server: Server) -> None:
    with ExitStack() as kept:
        # Given a stopped process that holds the fewest connections,
        hanging = min(server.workers())
        os.kill(hanging, signal.SIGSTOP)
        try:
            # when clients connect, then the other one answers them all.
            connect(server, 16, kept)
            assert held(server)[hanging] == 0
        finally:
            os.kill(hanging, signal.SIGCONT)
