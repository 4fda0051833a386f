"""The running product matches its description. `make fuzz` sends more requests."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

from tests.openapi.fuzz import fuzz
from tests.support.product import Product


def test_schemathesis_finds_nothing(product: Product, description: dict[str, Any], tmp_path: Path) -> None:
    # Every operation except that of the description itself.
    asked = sum(len(path) for path in description["paths"].values()) - 1

    found = fuzz(product.url, 25, 1, tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    assert found.returncode == 0, found.stdout
    assert f"{asked} selected / {asked} total" in found.stdout, found.stdout
    cases = re.search(r"(\d+) generated, (\d+) passed", found.stdout)
    assert cases, found.stdout
    assert int(cases[1]) == int(cases[2]) > asked * 25
