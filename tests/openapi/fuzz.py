"""`make fuzz`: schemathesis tests the running product against its description, with valid and invalid requests.

`python -m tests.openapi.fuzz --examples 1000 --seed 7`
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.support.product import BASE_DIR, Product

SCHEMATHESIS = Path(sys.executable).with_name("schemathesis")
CONFIG = Path(__file__).with_name("fuzz.toml")


def fuzz(url: str, examples: int, seed: int, folder: Path, **output: int) -> subprocess.CompletedProcess[str]:
    """Runs schemathesis in the folder. Exits with 0 if it finds nothing.

    `examples` is the number of random requests per operation, besides the fixed ones at each boundary.
    """
    command = [SCHEMATHESIS, "--config-file", CONFIG, "run", f"{url}/openapi.json"]
    return subprocess.run(
        [*map(str, command), "--max-examples", str(examples), "--seed", str(seed), "--no-color"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(BASE_DIR)},
        text=True,
        check=False,
        **output,
    )


def main() -> int:
    parser = argparse.ArgumentParser(description="Test the running product against its description.")
    parser.add_argument("--examples", type=int, default=1000, help="requests per operation")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="chatsystem-fuzz-") as folder:
        product = Product(Path(folder) / "data")
        product.start()
        try:
            product.wait_until_ready()
            return fuzz(product.url, options.examples, options.seed, Path(folder)).returncode
        finally:
            product.stop()


if __name__ == "__main__":
    sys.exit(main())
