"""Reads /metrics of a running product."""

from __future__ import annotations

import requests
from prometheus_client.parser import text_string_to_metric_families

from tests.support.product import PATIENCE, Product


def scrape(product: Product) -> str:
    """Returns the metrics, over a new connection, so that any web process may answer."""
    answer = requests.get(f"{product.url}/metrics", timeout=PATIENCE)
    assert answer.status_code == 200, answer.text
    return answer.text


def total(metrics: str, name: str, **labels: str) -> float:
    """The sum of the name's samples that have these labels."""
    return sum(
        sample.value
        for family in text_string_to_metric_families(metrics)
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )
