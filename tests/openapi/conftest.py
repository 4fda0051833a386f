"""Fixtures: the running product and its description."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from chatsystem.api.openapi.views import as_json
from tests.support.product import Product


@pytest.fixture(scope="session")
def description() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(as_json())
    return found


@pytest.fixture(scope="package")
def product(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    product = Product(tmp_path_factory.mktemp("product"))
    product.start()
    try:
        product.wait_until_ready()
        yield product
    finally:
        product.stop()
