"""Starts the product for a benchmark: `make run` in a temporary folder."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support import environment
from tests.support.product import Product
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
def started(**settings: str) -> Iterator[Product]:
    """Starts the embedded product with 5 workers and these settings. Removes it afterwards."""
    with tempfile.TemporaryDirectory(prefix="chatsystem-bench-") as folder:
        running = Product(Path(folder) / "data", settings={"WORKERS": "5", **settings})
        running.start()
        try:
            running.wait_until_ready()
            yield running
        finally:
            running.kill_everything()
