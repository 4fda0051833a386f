"""The running product does what it says, whatever it is asked. `make fuzz` asks more."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from tests.embedded.product import Product
from tests.openapi.fuzz import fuzz


def test_schemathesis_finds_nothing(product: Product, tmp_path: Path) -> None:
    found = fuzz(product.url, 25, 1, tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    assert found.returncode == 0, found.stdout
    # Every operation but the one that answers the description itself, in every phase.
    assert "17 selected / 17 total" in found.stdout, found.stdout
    cases = re.search(r"(\d+) generated, (\d+) passed", found.stdout)
    assert cases, found.stdout
    assert int(cases[1]) == int(cases[2]) > 17 * 25
