"""One row of the table engine × fault: clients write through real hosts while one fault happens."""

from __future__ import annotations

import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from tests.faults.chaos import HARM
from tests.faults.load import AckLog, Load
from tests.faults.recovery import LIMIT
from tests.faults.settled import check_when_settled
from tests.support.network import Network
from tests.support.product import Product, eventually

#: Clients of each host.
CLIENTS = 6
SEED = 20_261_129
#: Acknowledgements that a row needs. A busy machine takes longer for them.
ENOUGH = 2_000
PATIENCE = 600.0


@dataclass(frozen=True)
class Row:
    engine: str
    fault: str
    acknowledged: int
    lost: int
    doubled: int
    wrong: int
    #: Seconds without any acknowledgement, at most.
    gap: float
    #: How many there may be.
    allowed: float
    #: Why nothing can be acknowledged while the fault lasts, so that its time is allowed too; '' in most rows.
    why: str

    @property
    def is_good(self) -> bool:
        return not (self.lost or self.doubled or self.wrong) and self.gap <= self.allowed


#: Runs one row for at least so many seconds.
Run = Callable[[float], Row]


def table(rows: Sequence[Row]) -> str:
    header = "| engine | fault | acknowledged | lost | doubled | wrong | gap, s | allowed, s |"
    lines = [header, "|---|---|--:|--:|--:|--:|--:|--:|"]
    for row in rows:
        counts = f"{row.acknowledged:,} | {row.lost} | {row.doubled} | {row.wrong}"
        lines.append(f"| {row.engine} | {row.fault} | {counts} | {row.gap:.1f} | {row.allowed:.0f} |")
    for row in rows:
        if row.why:
            lines.append(f"{row.engine}, {row.fault}: {row.why}")
    return "\n".join(lines)


class TimedLog(AckLog):
    """Also measures the longest time without an acknowledgement."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.last, self.gap = time.monotonic(), 0.0

    def write(self, kind: str, **entry: object) -> None:
        if kind == "ack":
            with self.lock:
                now = time.monotonic()
                self.gap, self.last = max(self.gap, now - self.last), now
        super().write(kind, **entry)


class Stage(ExitStack):
    """A temporary folder and what was started in it. Everything ends with the context."""

    def __enter__(self) -> Stage:
        super().__enter__()
        self.folder = Path(self.enter_context(tempfile.TemporaryDirectory(prefix="scale-")))
        return self

    def network(self) -> Network:
        network = Network()
        self.callback(network.close)
        return network

    def host(self, name: str, **settings: str) -> Product:
        """Starts a host, and waits until it is ready."""
        product = Product(self.folder / name, settings={"WORKERS": "3", **settings})
        product.start()
        self.callback(product.kill_everything)
        eventually(product.ready)
        return product


def measure(
    stage: Stage,
    engine: str,
    fault: str,
    hosts: Sequence[Product],
    strike: Callable[[], object],
    seconds: float,
    why: str = "",
) -> Row:
    """Writes through all hosts, calls `strike` after a third of the time, and compares what is stored in the end.

    With several hosts, each client reads its writes from the next one. The longest time without an acknowledgement is
    limited as a recovery of `make chaos` is. With `why`, the time that `strike` takes is allowed too.
    """
    path = stage.folder / "acknowledged.jsonl"
    log = TimedLog(path)
    loads = [
        Load(host.url, log, CLIENTS, SEED + number, reads=hosts[(number + 1) % len(hosts)].url)
        for number, host in enumerate(hosts)
    ]
    began = time.monotonic()
    for load in loads:
        load.start()
    log.last, log.gap = time.monotonic(), 0.0
    time.sleep(seconds / 3)
    struck = time.monotonic()
    strike()
    lasted = time.monotonic() - struck
    eventually(lambda: time.monotonic() > began + seconds and log.seen["ack"] >= ENOUGH, PATIENCE)
    gap = max(log.gap, time.monotonic() - log.last)
    for load in loads:
        load.stopping.set()
    for load in loads:
        for thread in load.threads:
            thread.join()
    for load in loads:
        load.stop()
    violations, compared = check_when_settled(hosts[0], path)
    for violation in violations:
        print(violation, flush=True)
    harm = Counter(HARM.get(violation["invariant"], "wrong") for violation in violations)
    allowed = LIMIT + lasted if why else LIMIT
    counts = compared["acknowledged"], harm["lost"], harm["doubled"], harm["wrong"]
    return Row(engine, fault, *counts, gap, allowed, why)
