"""A product of its own for a measurement: `make run` in a temporary folder, on the database that DATABASE names."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests import environment
from tests.embedded.product import Product


@contextmanager
def product(**settings: str) -> Iterator[Product]:
    """A started product with 5 workers, which is gone afterwards."""
    if environment.missing:
        raise environment.missing
    settings = {"WORKERS": "5", **settings}
    if environment.server:
        environment.server.start()
        settings["DATABASE_URL"] = environment.server.new_database("product")
    with tempfile.TemporaryDirectory(prefix="chatsystem-bench-") as folder:
        running = Product(Path(folder) / "data", settings=settings)
        running.start()
        try:
            running.wait_until_ready()
            yield running
        finally:
            running.kill_everything()
            if environment.server:
                environment.server.kill()
