"""All processes killed at once, under load, more than once: nothing acknowledged is lost, doubled or renumbered."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.embedded.product import BASE_DIR, Product, eventually
from tests.faults.load import AckLog, Load

SEED = 20_261_123
KILLS = 3


@pytest.fixture
def product(tmp_path: Path) -> Product:
    product = Product(tmp_path / "data")
    product.start()
    yield product
    product.kill_everything()


def test_nothing_acknowledged_is_lost_when_every_process_is_killed_under_load(product: Product, tmp_path: Path) -> None:
    # Given eight clients that write, and read what they wrote,
    print(f"seed {SEED}")
    product.wait_until_ready()
    log = AckLog(tmp_path / "acknowledged.jsonl")
    load = Load(product.url, log, clients=8, seed=SEED)
    load.start()

    # when every process of the product is killed and it is started again on the same DATA_DIR, three times,
    for _ in range(KILLS):
        _more_acknowledgements(log, 300)
        product.kill_everything()
        product.start()
        assert product.wait_until_ready() < 15
    _more_acknowledgements(log, 300)
    load.stop()

    # then, once all is stored and indexed, the checker finds nothing.
    violations, compared = check_when_settled(product, tmp_path / "acknowledged.jsonl")
    assert violations == []
    assert compared["acknowledged"] >= (KILLS + 1) * 300
    assert log.seen["unanswered"] > 0


def _more_acknowledgements(log: AckLog, number: int) -> None:
    before = log.seen["ack"]
    eventually(lambda: log.seen["ack"] >= before + number)


def check_when_settled(product: Product, ack_log: Path) -> tuple[list[dict], dict]:
    """Asks the checker until nothing is on its way any more (invariant 7), and returns what it found."""
    deadline = time.monotonic() + 30
    while True:
        command = [sys.executable, "-m", "tests.faults.check", str(ack_log)]
        output = subprocess.run(
            command, cwd=BASE_DIR, env=product.environ(), check=True, capture_output=True, text=True
        ).stdout
        *violations, compared = map(json.loads, output.splitlines())
        if not any(violation["invariant"] in (5, 7) for violation in violations) or time.monotonic() > deadline:
            return violations, compared
        time.sleep(0.5)
