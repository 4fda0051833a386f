"""The long form: `make chaos SECONDS=600 SEED=1`. Documented in docs/reliability.md.

Clients write all the time, and subscribers follow them. Each kind of process has a killer, which kills it every 17 s if
service is back from its last kill, side by side with the other killers and with rounds of the other faults. Ends with 1
when the checker finds anything, or service was back too late.
"""

from __future__ import annotations

import argparse
import random
import shutil
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.faults.catalogue import FAULTS, Fault
from tests.faults.deliveries import KINDS
from tests.faults.load import AckLog, Client, Load
from tests.faults.recovery import LIMIT, Search, recover
from tests.faults.settled import check_when_settled
from tests.faults.stack import SEARCH, Stack
from tests.support.services.mariadb import MariaDB
from tests.support.services.packages import Missing

CLIENTS = 12
SUBSCRIBERS = 100
#: Seconds for which a client pauses after a write. Without a pause the load takes all of the CPU, and a recovery would
#: show for how long processes that start wait for it.
PAUSE = 0.3
#: Seconds between two kills of the same kind: 35 in ten minutes.
BETWEEN_KILLS = 17.0
#: Seconds that a fault lasts: of a killed server, of a paused process or connection, and of others.
AWAY, STANDS_STILL, LASTS = 1.0, 20.0, 5.0
#: The category of each kind of finding; others are "wrong".
HARM = {1: "lost", 2: "doubled"}
#: The invariant of the subscribers, whose findings are counted by themselves.
DELIVERIES = 11


@dataclass
class Strike:
    """One fault that happened, with times of the monotonic clock."""

    fault: str
    begin: float
    #: None while the fault lasts.
    end: float | None = None
    #: Seconds until service was back, without those during another fault.
    recovery: float = 0.0
    #: Seconds from the fault's begin until service was back.
    acknowledged: int = 0


@dataclass
class Chaos:
    stack: Stack
    load: Load
    seconds: float
    strikes: list[Strike] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.began = time.monotonic()
        self.targets = {target: threading.Lock() for fault in FAULTS for target in fault.targets}

    def run(self, seed: int) -> None:
        """Causes faults for `seconds`. Raises when a fault does not end or service does not come back."""
        kills = [fault for fault in FAULTS if fault.kill]
        # Threads that measure recoveries. There are never more at once.
        with ThreadPoolExecutor(64) as self.pool:
            killers = [self.pool.submit(self.kill, fault, number / len(kills)) for number, fault in enumerate(kills)]
            strikers = [*killers, self.pool.submit(self.others, random.Random(seed))]
            wait(strikers, return_when=FIRST_EXCEPTION)
            self.seconds = 0
            recoveries = [recovery for striker in strikers for recovery in striker.result()]
            print(f"{self.now():5.0f} s  {len(self.strikes)} faults have struck", flush=True)
        for recovery in recoveries:
            recovery.result()

    def now(self) -> float:
        """Returns the seconds since the run began."""
        return time.monotonic() - self.began

    def kill(self, fault: Fault, phase: float) -> list[Future[None]]:
        at = phase * BETWEEN_KILLS
        recoveries = []
        while at < self.seconds:
            time.sleep(max(0.0, at - self.now()))
            recoveries.append(self.strike(fault, AWAY))
            # On a busy machine a worker took 15 s to start. Killed again before that, it would never run.
            wait(recoveries[-1:])
            at += BETWEEN_KILLS
        return recoveries

    def others(self, chance: random.Random) -> list[Future[None]]:
        """Causes all other faults one after the other, in rounds of random order."""
        others = [fault for fault in FAULTS if not fault.kill]
        recoveries: list[Future[None]] = []
        while True:
            self.stack.copy_redis()
            chance.shuffle(others)
            for fault in others:
                if self.now() > self.seconds:
                    return recoveries
                recoveries.append(self.strike(fault, STANDS_STILL if fault.still else LASTS))
                wait(recoveries[-1:])

    def strike(self, fault: Fault, seconds: float) -> Future[None]:
        """Causes a fault and returns when it has ended. The future ends when service is back."""
        before = self.load.log.seen["ack"]
        # A quiet fault needs a healthy stack.
        targets = self.targets if fault.quiet else fault.targets
        with ExitStack() as held:
            for target in sorted(targets):
                held.enter_context(self.targets[target])
            strike = Strike(fault.name, time.monotonic())
            self.strikes.append(strike)
            with fault.on(self.stack, self.load):
                time.sleep(seconds)
            strike.end = time.monotonic()
        # Elasticsearch takes longest to start, so only its start would be measured, whatever else was hit. And while
        # it is killed every few seconds, its index falls behind. So search only has to answer.
        search = Client.searches if any(SEARCH in target for target in fault.targets) else None
        return self.pool.submit(self.look_on, strike, before, search)

    def look_on(self, strike: Strike, before: int, search: Search | None) -> None:
        """Waits until service is back."""
        assert strike.end is not None
        recover(self.stack, self.load, search=search)
        strike.recovery = self.calm_seconds(strike.end, time.monotonic())
        strike.acknowledged = self.load.log.seen["ack"] - before
        print(f"{self.now():5.0f} s  {strike.fault}: back after {strike.recovery:.1f} s", flush=True)

    def calm_seconds(self, begin: float, end: float) -> float:
        """Returns how many of the seconds between `begin` and `end` were without a fault."""
        calm, at = 0.0, begin
        for strike in sorted(self.strikes, key=lambda strike: strike.begin):
            calm += max(0.0, min(strike.begin, end) - at)
            at = max(at, strike.end or end)
        return calm + max(0.0, end - at)

    def table(self, violations: list[dict[str, Any]], delivered: dict[str, int]) -> Iterator[str]:
        yield "| fault | times | acknowledged meanwhile | recovery, median | worst |"
        yield "|---|--:|--:|--:|--:|"
        by_fault: dict[str, list[Strike]] = defaultdict(list)
        for strike in self.strikes:
            by_fault[strike.fault].append(strike)
        rows = [(fault.name, by_fault[fault.name]) for fault in FAULTS if fault.name in by_fault]
        for name, strikes in rows:
            yield _row(name, strikes, sum(strike.acknowledged for strike in strikes))
        yield _row("all", self.strikes, self.load.log.seen["ack"])
        yield ""
        writes = [violation["invariant"] for violation in violations if violation["invariant"] != DELIVERIES]
        harm = Counter(HARM.get(invariant, "wrong") for invariant in writes)
        yield ", ".join(f"{kind} {harm[kind]}" for kind in ("lost", "doubled", "wrong"))
        yield f"{SUBSCRIBERS} subscribers: " + ", ".join(f"{kind} {delivered.get(kind, 0):,}" for kind in KINDS)


def _row(name: str, strikes: list[Strike], acknowledged: int) -> str:
    recoveries = [strike.recovery for strike in strikes]
    return (
        f"| {name} | {len(strikes)} | {acknowledged:,} | "
        f"{statistics.median(recoveries):.1f} s | {max(recoveries):.1f} s |"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--table", type=Path, help="a file for the table, which is printed too")
    options = parser.parse_args()
    print(f"seed {options.seed}")
    folder = Path(tempfile.mkdtemp(prefix="chaos-"))
    try:
        stack = Stack(folder, MariaDB)
    except Missing as missing:
        print(f"make chaos: {missing}", file=sys.stderr)
        return 1
    try:
        harmed = _run(stack, options)
    finally:
        stack.close()
    if harmed:
        print(f"The clients' log and the product's are in {folder}.")
        return 1
    shutil.rmtree(folder)
    return 0


def _run(stack: Stack, options: argparse.Namespace) -> bool:
    """Returns whether anything was lost, duplicated or wrong, or service came back too late."""
    ack_log = stack.folder / "acknowledged.jsonl"
    log = AckLog(ack_log)
    load = Load(stack.product.url, log, CLIENTS, options.seed, subscribers=SUBSCRIBERS, pause=PAUSE)
    load.start()
    # A new index has to be filled first.
    recover(stack, load)
    chaos = Chaos(stack, load, options.seconds)
    try:
        chaos.run(options.seed)
    finally:
        load.stop()
    violations, compared = check_when_settled(stack.product, ack_log)
    for violation in violations:
        print(violation)
    table = "\n".join(chaos.table(violations, compared["delivered"]))
    print(table)
    if options.table:
        options.table.write_text(table + "\n")
    return bool(violations) or max(strike.recovery for strike in chaos.strikes) > LIMIT


if __name__ == "__main__":
    sys.exit(main())
