"""`python -m tests.scale --only galera`: runs the table engine × fault on real processes and prints it as markdown.

Ends with 1 when anything was lost, doubled or wrong, or if nothing was acknowledged for longer than allowed.
"""

from __future__ import annotations

import argparse
import sys

from tests.scale import databases, state
from tests.scale.rows import Run, table
from tests.support.services.packages import Missing

ROWS: dict[str, Run] = {**state.ROWS, **databases.ROWS}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="a word of the rows' names: sentinel, galera, lag, …")
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
    print(table(rows))
    return 0 if complete and all(row.is_good for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
