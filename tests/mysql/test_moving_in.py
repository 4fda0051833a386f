"""Moving from the embedded SQLite to a server after a crash: no acknowledged write is lost."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.faults.load import AckLog, Load, more_acknowledgements
from tests.faults.settled import check_when_settled
from tests.support import environment
from tests.support.product import BASE_DIR, Product

SEED = 20_261_125


def test_nothing_acknowledged_is_lost_when_the_product_moves_into_another_database(
    tmp_path: Path,
) -> None:
    # Given a product on SQLite, killed while clients write, so that its log still holds events,
    print(f"seed {SEED}")
    url = environment.server.new_database("moved_into")
    product = Product(tmp_path / "data")
    product.start()
    try:
        product.wait_until_ready()
        log = AckLog(tmp_path / "acknowledged.jsonl")
        load = Load(product.url, log, clients=8, seed=SEED)
        load.start()
        more_acknowledgements(log, 500)
        refused = _copy_to(product, url)
        product.kill_everything()

        # when everything is copied, and the product starts on the server with the same DATA_DIR,
        copied = _copy_to(product, url)
        product.settings["DATABASE_URL"] = url
        product.start()
        product.wait_until_ready()
        more_acknowledgements(log, 300)
        load.stop()

        # then the copy was refused while the product ran, and no acknowledged write is lost.
        assert (refused.returncode, copied.returncode) == (1, 0), copied.stderr
        assert refused.stderr.startswith("CommandError: The product is running on DATA_DIR")
        assert "each compared" in copied.stdout
        violations, compared = check_when_settled(product, tmp_path / "acknowledged.jsonl")
        assert violations == []
        assert compared["acknowledged"] >= 800
    finally:
        product.kill_everything()


def _copy_to(product: Product, url: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "manage.py", "copy_to", url]
    return subprocess.run(command, cwd=BASE_DIR, env=product.environ(), capture_output=True, text=True, check=False)
