"""Waits until everything is stored and indexed, and runs the checker. Documented in docs/reliability.md."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

from tests.faults.check import UNSETTLED
from tests.support.product import BASE_DIR, PATIENCE, Product


def check_when_settled(product: Product, ack_log: Path) -> tuple[list[dict], dict]:
    """Runs the checker until everything is stored and indexed (invariant 7), and returns its findings."""
    deadline = time.monotonic() + 2 * PATIENCE
    while True:
        command = [sys.executable, "-m", "tests.faults.check", str(ack_log)]
        output = subprocess.run(
            command, cwd=BASE_DIR, env=product.environ(), check=True, stdout=subprocess.PIPE, text=True
        ).stdout
        *violations, compared = map(json.loads, output.splitlines())
        if not any(violation["invariant"] in UNSETTLED for violation in violations) or time.monotonic() > deadline:
            return violations, compared
        time.sleep(0.5)
