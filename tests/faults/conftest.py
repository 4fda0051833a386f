from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import environment
from tests.support.product import PATIENT, PATIENT_DATABASE, Product

# These tests kill or share a database server.
of_servers = ["test_database_killed.py", "test_faults.py", "test_restored_dump.py", "test_two_hosts.py"]
collect_ignore = [] if environment.server else of_servers
if environment.DATABASE == "mysql":
    # Debian's MySQL package lacks mysqldump. The others take minutes to kill our processes, so MariaDB stands for both.
    of_mariadb = ["backup", "faults", "redis_full", "rolling_deploy", "sigkill_everything", "two_hosts"]
    collect_ignore += [f"test_{name}.py" for name in of_mariadb]


@pytest.fixture
def patient() -> bool:
    """Whether the product waits long for its servers. A file that allows no refusal replaces it."""
    return False


@pytest.fixture
def product(tmp_path: Path, patient: bool) -> Iterator[Product]:
    """A started product with its own DATA_DIR, and its own database when the tests have a server."""
    settings = {"WORKERS": "5", **(PATIENT if patient else {})}
    if environment.server:
        settings["DATABASE_URL"] = environment.server.new_database("product") + (PATIENT_DATABASE if patient else "")
    product = Product(tmp_path / "data", settings=settings)
    product.start()
    yield product
    product.kill_everything()
