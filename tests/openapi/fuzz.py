"""`make fuzz`: schemathesis holds the running product to its description, with good requests and with wrong ones.

`python -m tests.openapi.fuzz --examples 1000 --seed 7`
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.embedded.product import BASE_DIR, Product

SCHEMATHESIS = Path(sys.executable).with_name("schemathesis")
CONFIG = Path(__file__).with_name("fuzz.toml")


def fuzz(url: str, examples: int, seed: int, folder: Path, **output: int) -> subprocess.CompletedProcess[str]:
    """Ends with 0 when nothing was found. `examples` are those of each operation, beside the fixed ones at each edge.

    Whatever it leaves is in the folder.
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
    parser = argparse.ArgumentParser(description="Hold the running product to its description.")
    parser.add_argument("--examples", type=int, default=1000, help="requests of each operation")
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
