"""One row of the table engine × fault: clients write through real hosts while one fault happens."""

from __future__ import annotations

import itertools
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import requests

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
#: Seconds between two looks at what is stored, and for which one waits for an answer.
LOOK_INTERVAL, LOOK_TIMEOUT = 0.25, 2.0


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
    #: Seconds in which nothing was stored though an acknowledged write waited, at most.
    storing_gap: float
    #: Why nothing can be acknowledged while the fault lasts, so that its time is allowed too; '' in most rows.
    why: str

    @property
    def is_good(self) -> bool:
        return not (self.lost or self.doubled or self.wrong) and self.gap <= self.allowed


#: Runs one row for at least so many seconds.
Run = Callable[[float], Row]


def table(rows: Sequence[Row]) -> str:
    header = "| engine | fault | acknowledged | lost | doubled | wrong | gap, s | allowed, s | storing gap, s |"
    lines = [header, "|---|---|--:|--:|--:|--:|--:|--:|--:|"]
    for row in rows:
        counts = f"{row.acknowledged:,} | {row.lost} | {row.doubled} | {row.wrong}"
        seconds = f"{row.gap:.1f} | {row.allowed:.0f} | {row.storing_gap:.1f}"
        lines.append(f"| {row.engine} | {row.fault} | {counts} | {seconds} |")
    for row in rows:
        if row.why:
            lines.append(f"{row.engine}, {row.fault}: {row.why}")
    return "\n".join(lines)


class TimedLog(AckLog):
    """Also measures the longest time without an acknowledgement, and in which none was stored."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.last, self.gap = time.monotonic(), 0.0
        #: When the first write was acknowledged after something was stored; None until then.
        self.waiting_since: float | None = None
        self.storing_gap = 0.0

    def write(self, kind: str, **entry: object) -> None:
        if kind == "ack":
            with self.lock:
                now = time.monotonic()
                self.gap, self.last = max(self.gap, now - self.last), now
                self.waiting_since = self.waiting_since or now
        super().write(kind, **entry)

    def stored(self) -> None:
        """Notes that something was stored."""
        with self.lock:
            if self.waiting_since is not None:
                self.storing_gap = max(self.storing_gap, time.monotonic() - self.waiting_since)
            self.waiting_since = None


@contextmanager
def storing_watched(hosts: Sequence[Product], loads: Sequence[Load], log: TimedLog) -> Iterator[None]:
    """Looks at the chats' counts, which move with each drain, and tells the log when they have moved."""
    tokens = {token for load in loads for token, _ in load.chats}
    done = threading.Event()

    def watch() -> None:
        most = dict.fromkeys(tokens, 0)
        while not done.wait(LOOK_INTERVAL):
            for host, token in itertools.product(hosts, tokens):
                if (found := _stored(host, token)) > most[token]:
                    most[token] = found
                    log.stored()

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        yield
    finally:
        done.set()
        watching.join()


def _stored(host: Product, token: str) -> int:
    """Returns how many messages of the application are stored, or 0 while that cannot be told."""
    try:
        answer = requests.get(f"{host.url}/applications/{token}/chats", timeout=LOOK_TIMEOUT)
    except requests.RequestException:
        return 0
    return sum(chat["messages_count"] for chat in answer.json()["results"]) if answer.ok else 0


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
    strike: Callable[[], str | None],
    seconds: float,
) -> Row:
    """Writes through all hosts, calls `strike` after a third of the time, and compares what is stored in the end.

    With several hosts, each client reads its writes from the next one. The longest time without an acknowledgement is
    limited as a recovery of `make chaos` is. If `strike` returns why nothing can be acknowledged while it lasts, the
    time that it takes is allowed too.
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
    with storing_watched(hosts, loads, log):
        time.sleep(seconds / 3)
        struck = time.monotonic()
        why = strike() or ""
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
    return Row(engine, fault, *counts, gap, allowed, log.storing_gap, why)
