"""`python -m tests.scale --only galera`: runs the table engine × fault on real processes and prints it as markdown.

Then runs the write log's tests on Valkey. Ends with 1 when anything was lost, doubled or wrong, if nothing was
acknowledged for longer than allowed, or if a test fails.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys

from tests.scale import databases, state
from tests.scale.rows import Run, table
from tests.support.services.packages import Missing

ROWS: dict[str, Run] = {**state.ROWS, **databases.ROWS}
VALKEY = "valkey, the write log's tests"


def passes_on_valkey() -> bool:
    # With CI=true, tests fail where they would be skipped because there is no Valkey.
    environ = {**os.environ, "REDIS": "valkey", "CI": "true"}
    return subprocess.run([sys.executable, "-m", "pytest", "--quiet", "tests/writelog"], env=environ).returncode == 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="a word of the rows' names: sentinel, galera, lag, …; or valkey")
    parser.add_argument("--seconds", type=float, default=45.0, help="how long clients write, at least")
    options = parser.parse_args()
    rows, complete = [], True
    for name, run in ROWS.items():
        if options.only not in name:
            continue
        print(f"{name} …", flush=True)
        try:
            rows.append(run(options.seconds))
        except Missing as missing:
            print(f"{name}: {missing}", file=sys.stderr)
            complete = False
    if rows:
        print(table(rows))
    if options.only in VALKEY:
        print(f"{VALKEY} …", flush=True)
        complete = passes_on_valkey() and complete
    return 0 if complete and all(row.is_good for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
