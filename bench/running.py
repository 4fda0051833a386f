"""Starts the product for a benchmark: `make run` in a temporary folder."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import run

from tests.support import environment
from tests.support.product import BASE_DIR, Product
from tests.support.services.database_server import DatabaseServer

#: As in deploy/mysql/chatsystem.cnf.
BUFFER_POOL = "512M"


@contextmanager
def product(**settings: str) -> Iterator[Product]:
    """Starts the product with 5 workers on the database that DATABASE names. Removes both afterwards."""
    with database_server() as server:
        if server:
            settings["DATABASE_URL"] = server.new_database("product")
        with started(**settings) as running:
            yield running


@contextmanager
def database_server() -> Iterator[DatabaseServer | None]:
    """Starts the database server that DATABASE names. Yields None for SQLite. Raises `packages.Missing`."""
    if environment.missing:
        raise environment.missing
    if environment.server:
        environment.server.buffer_pool = BUFFER_POOL
        environment.server.start()
    try:
        yield environment.server
    finally:
        if environment.server:
            environment.server.kill()


@contextmanager
def checkout(commit: str) -> Iterator[type[Product]]:
    """Installs an earlier commit in a folder of its own, with its own packages. Removes it afterwards."""
    with tempfile.TemporaryDirectory(prefix="chatsystem-bench-") as folder:
        archive = run(["git", "archive", commit], cwd=BASE_DIR, check=True, capture_output=True).stdout
        run(["tar", "--extract"], cwd=folder, input=archive, check=True)
        run(["make", "--silent", ".venv/.dev"], cwd=folder, check=True)

        class Earlier(Product):
            tree = Path(folder)
            python = f"{folder}/.venv/bin/python"

        yield Earlier


@contextmanager
def started(product: type[Product] = Product, /, **settings: str) -> Iterator[Product]:
    """Starts the embedded product with 5 workers and these settings. Removes it afterwards."""
    with tempfile.TemporaryDirectory(prefix="chatsystem-bench-") as folder:
        running = product(Path(folder) / "data", settings={"WORKERS": "5", **settings})
        running.start()
        try:
            running.wait_until_ready()
            yield running
        finally:
            running.kill_everything()


def cpu(pids: Collection[int]) -> float:
    """Returns the CPU seconds of the processes and of their children that have ended."""
    ticks = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += sum(map(int, fields[11:15]))
    return ticks / os.sysconf("SC_CLK_TCK")
