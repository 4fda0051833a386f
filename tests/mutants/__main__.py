"""Breaks the product in the places that matter, one at a time, and shows which test sees it.

`make mutants`, or `python -m tests.mutants [WORD …]` for those whose names hold one of the words. Each mutant is a copy
of the tree with one edit; its tests run in order, the fastest first, until one fails. The exit code is 1 when a mutant
survives, and 2 when an edit no longer fits the code or a test fails without it. Documented in docs/reliability.md.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.mutants.catalogue import MUTANTS, Mutant

BASE_DIR = Path(__file__).resolve().parent.parent.parent

#: Seconds for a run of tests: many times what the slowest takes.
PATIENCE = 600


class Stale(Exception):
    """The catalogue no longer fits the product: an edit has no place, or a test no longer runs or passes."""


@dataclass(frozen=True)
class Result:
    mutant: Mutant
    #: The test, None when none saw it.
    caught_by: str | None
    #: What the test said.
    reason: str
    seconds: float


def main(words: list[str]) -> int:
    chosen = [m for m in MUTANTS if not words or any(word in m.name for word in words)]
    with ThreadPoolExecutor(int(os.environ.get("JOBS", "2"))) as pool:
        try:
            # A test that fails in any case would see nothing.
            list(pool.map(expect_green, sorted({(m.database, test) for m in chosen for test in m.tests})))
            results = []
            for result in pool.map(run, chosen):
                results.append(result)
                print(f"{result.seconds:6.1f} s  {result.mutant.name}: {result.caught_by} {result.reason}", flush=True)
        except Stale as stale:
            pool.shutdown(cancel_futures=True)
            print(stale, file=sys.stderr)
            return 2
    print()
    print("\n".join(table(results)))
    survivors = [result.mutant.name for result in results if result.caught_by is None]
    print(f"\n{len(results)} mutants, not caught: {', '.join(survivors) or 'none'}")
    return 1 if survivors else 0


def table(results: Iterable[Result]) -> Iterable[str]:
    yield "| mutant | what it breaks | caught by |"
    yield "|---|---|---|"
    for result in results:
        caught_by = f"`{result.caught_by}`" if result.caught_by else "**nothing**"
        yield f"| {result.mutant.name} | {result.mutant.breaks} | {caught_by} |"


def run(mutant: Mutant) -> Result:
    began = time.monotonic()
    with copy_of_the_tree() as tree:
        mutate(tree, mutant)
        for test in mutant.tests:
            if failure := first_failure(tree, test, mutant.database):
                return Result(mutant, *failure, time.monotonic() - began)
    return Result(mutant, None, "", time.monotonic() - began)


def expect_green(what: tuple[str, str]) -> None:
    database, test = what
    if failure := first_failure(BASE_DIR, test, database):
        raise Stale(f"{failure[0]} fails without a mutant: {failure[1]}")


def mutate(tree: Path, mutant: Mutant) -> None:
    for name, old, new in mutant.edits:
        text = (tree / name).read_text()
        if text.count(old) != 1:
            raise Stale(f"{mutant.name}: {name} holds {text.count(old)} times, not once:\n{old}")
        (tree / name).write_text(text.replace(old, new))


@contextmanager
def copy_of_the_tree() -> Iterable[Path]:
    """What git knows or would take, in a folder of its own."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, cwd=BASE_DIR, check=True, capture_output=True, text=True).stdout.split("\0")
    with tempfile.TemporaryDirectory(prefix="chatsystem-mutant-") as folder:
        for name in filter(None, names):
            (Path(folder) / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(BASE_DIR / name, Path(folder) / name)
        yield Path(folder)


def first_failure(tree: Path, test: str, database: str) -> tuple[str, str] | None:
    """The test that failed first and what it said. Raises `Stale` when none was run, or something else broke."""
    options = ["-q", "-x", "-rf", "--tb=no", "-p", "no:cacheprovider"]
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", *options, *test.split()],
        cwd=tree,
        # Without byte code, which Python takes for the source's when the size and the second are the same.
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "DATABASE": database, "COLUMNS": "300", "CI": "true"},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    if ended.returncode == 0:
        return None
    found = re.search(r"^FAILED (.+?)(?: - (.*))?$", ended.stdout, re.MULTILINE)
    if ended.returncode != 1 or not found:
        raise Stale(f"pytest {test} ended with {ended.returncode}:\n{ended.stdout[-2000:]}{ended.stderr[-2000:]}")
    return found[1].removeprefix("tests/"), (found[2] or "")[:100]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
