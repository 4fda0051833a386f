"""All processes killed at once, under load, more than once: nothing acknowledged is lost, doubled or renumbered."""

from __future__ import annotations

from pathlib import Path

from tests.embedded.product import Product
from tests.faults.load import AckLog, Load, more_acknowledgements
from tests.faults.settled import check_when_settled

SEED = 20_261_123
KILLS = 3


def test_nothing_acknowledged_is_lost_when_every_process_is_killed_under_load(product: Product, tmp_path: Path) -> None:
    # Given eight clients that write, and read what they wrote,
    print(f"seed {SEED}")
    product.wait_until_ready()
    log = AckLog(tmp_path / "acknowledged.jsonl")
    load = Load(product.url, log, clients=8, seed=SEED)
    load.start()

    # when every process of the product is killed and it is started again on the same DATA_DIR, three times,
    for _ in range(KILLS):
        more_acknowledgements(log, 300)
        product.kill_everything()
        product.start()
        assert product.wait_until_ready() < 15
    more_acknowledgements(log, 300)
    load.stop()

    # then, once all is stored and indexed, the checker finds nothing.
    violations, compared = check_when_settled(product, tmp_path / "acknowledged.jsonl")
    assert violations == []
    assert compared["acknowledged"] >= (KILLS + 1) * 300
    assert log.seen["unanswered"] > 0
