"""`make bench`: runs every benchmark and its reference. Documented in docs/benchmarks.md.

    .venv/bin/python -m bench [--only drain --only pages] [--quick] [--texts LOG.jsonl.gz] [--name NAME]

With DATABASE=mysql it runs on MySQL instead of MariaDB. Exits with 1 when a bound is missed.
"""

from __future__ import annotations

import argparse
import gc
import os
import sys
from pathlib import Path

os.environ.setdefault("DATABASE", "mariadb")

from bench.measures import MEASURES, ON_REQUEST
from bench.rounds import Measure
from bench.stack import Scale, Stack
from bench.texts import Texts

FULL = Scale(
    rounds=3,
    turns=9,
    warm_seconds=3,
    long_seconds=30,
    lag_seconds=60,
    seconds=3,
    batch_seconds=2,
    backlog=200_000,
    few=10_000,
    many=1_000_000,
    most=5_000_000,
    requests=100_000,
)
#: Shows that everything runs, not how fast it is.
QUICK = Scale(
    rounds=1,
    turns=1,
    warm_seconds=1,
    long_seconds=2,
    lag_seconds=2,
    seconds=2,
    batch_seconds=1,
    backlog=8_000,
    few=1_000,
    many=20_000,
    most=40_000,
    requests=2_000,
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", choices=MEASURES, help="repeatable")
    parser.add_argument("--quick", action="store_true", help="takes a minute or two; the figures mean nothing")
    parser.add_argument(
        "--texts", type=Path, help="a chat log of JSON lines, each with a body, instead of generated texts"
    )
    parser.add_argument(
        "--name", default="latest", help="the name of the files in bench/results (default: %(default)s)"
    )
    parser.add_argument(
        "--reference-without-search",
        action="store_true",
        help="the reference implementation does not index its messages",
    )
    given = parser.parse_args()
    stack = Stack(QUICK if given.quick else FULL, Texts(given.texts), not given.reference_without_search)
    # Otherwise a garbage collection would traverse all the texts during a measurement.
    gc.freeze()
    measures: list[Measure] = []
    try:
        stack.start()
        for name in given.only or (name for name in MEASURES if name not in ON_REQUEST):
            measures += MEASURES[name](stack)
        from bench import report

        found = report.machine(stack)
    finally:
        stack.close()
    print(report.table(measures))
    page = report.write(given.name, measures, found)
    stack.say(f"written to {page}")
    return int(not all(measure.reached for measure in measures))


if __name__ == "__main__":
    sys.exit(main())
