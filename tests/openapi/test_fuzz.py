"""The running product does what it says, whatever it is asked. `make fuzz` asks more."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

from tests.embedded.product import Product
from tests.openapi.fuzz import fuzz


def test_schemathesis_finds_nothing(product: Product, description: dict[str, Any], tmp_path: Path) -> None:
    # Every operation but the one that answers the description itself.
    asked = sum(len(path) for path in description["paths"].values()) - 1

    found = fuzz(product.url, 25, 1, tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    assert found.returncode == 0, found.stdout
    assert f"{asked} selected / {asked} total" in found.stdout, found.stdout
    cases = re.search(r"(\d+) generated, (\d+) passed", found.stdout)
    assert cases, found.stdout
    assert int(cases[1]) == int(cases[2]) > asked * 25
