from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import environment
from tests.embedded.product import Product

# There is a server to kill.
collect_ignore = [] if environment.server else ["test_database_killed.py", "test_faults.py", "test_restored_dump.py"]
if environment.DATABASE == "mysql":
    # Debian's package of the server comes without mysqldump. The faults take minutes: MariaDB stands for both.
    collect_ignore += ["test_backup.py", "test_faults.py"]


@pytest.fixture
def product(tmp_path: Path) -> Iterator[Product]:
    """A started product with its own DATA_DIR, on a database of its own where the tests have a server."""
    settings = {"WORKERS": "5"}
    if environment.server:
        settings["DATABASE_URL"] = environment.server.new_database("product")
    product = Product(tmp_path / "data", settings=settings)
    product.start()
    yield product
    product.kill_everything()
