"""Killing all processes under load, several times, loses, duplicates and renumbers no acknowledged write."""

from __future__ import annotations

from pathlib import Path

from tests.faults.load import AckLog, Load, more_acknowledgements
from tests.faults.settled import check_when_settled
from tests.support.product import Product

SEED = 20_261_123
KILLS = 3


def test_nothing_acknowledged_is_lost_when_every_process_is_killed_under_load(product: Product, tmp_path: Path) -> None:
    # Given eight clients that write and read their writes, and eight subscribers,
    print(f"seed {SEED}")
    product.wait_until_ready()
    log = AckLog(tmp_path / "acknowledged.jsonl")
    load = Load(product.url, log, clients=8, seed=SEED, subscribers=8)
    load.start()

    # when all processes are killed and the product is restarted on the same DATA_DIR, three times,
    for _ in range(KILLS):
        more_acknowledgements(log, 300)
        product.kill_everything()
        product.start()
        product.wait_until_ready()
    more_acknowledgements(log, 300)
    load.stop()

    # then the checker finds nothing, once everything is stored and indexed.
    violations, compared = check_when_settled(product, tmp_path / "acknowledged.jsonl")
    assert violations == []
    assert compared["acknowledged"] >= (KILLS + 1) * 300
    assert log.seen["unanswered"] > 0
    assert compared["delivered"]["deliveries"] > 1000
