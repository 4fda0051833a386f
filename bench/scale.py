"""Measures what a write costs in each tier, and how many one state Redis accepts. Prints tables of docs/capacity.md.

    .venv/bin/python -m bench.scale [--rounds 3] [--seconds 10]

First, processes append to the write log as web processes do, without HTTP: to one state Redis and to three in turn.
Then clients post single messages and batches of 100 in turn to the product, whose tiers are processes of their own: the
web, the workers, the state Redis, the Redis of cache and broker, the database that DATABASE names (default: mariadb)
and an Elasticsearch node. All figures but the rate are CPU time from /proc/PID/stat, because that depends less on other
work on the machine. It includes storing and indexing. An empty Django view, requested in turn too, is the measure of
the machine's speed. Last, the cores of larger installations are calculated from that.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import os
import random
import secrets
import tempfile
import time
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

os.environ.setdefault("DATABASE", "mariadb")

from bench import running
from bench.running import cpu
from bench.sizes import State
from bench.stack import BATCH, CONNECTIONS, PATIENCE, WEB, WORKER, ProductSide, ReferenceSide, posts
from bench.texts import Texts
from bench.wrk import Request
from tests.support.product import children, eventually
from tests.support.services.elasticsearch import Node
from tests.support.services.redis import Redis

#: The processes that append, and the threads of each: as many as four web processes have.
PROCESSES, THREADS = 4, 8
#: The applications of each of these processes. They lie in all partitions.
APPLICATIONS = 64
#: Bytes of a text, as in the chat log of docs/capacity.md.
TEXT = "x" * 58
#: Seconds of batches for one second of single messages: storing a batch takes longer than posting it.
BATCHES_SHARE = 0.2
WARM_SECONDS = 3
#: Seconds between two looks at whether everything is stored, which cost CPU time themselves.
LOOK = 0.25

#: POSTs per second of the installations that are calculated, and the share of each core that they use.
RATES = (1_000, 10_000, 100_000)
USED = 0.6

ALL, EMPTY = "all", "an empty view"
Costs = dict[str, float]


@dataclass(slots=True)
class Side:
    """One side of a comparison: its figures, with a value of each round."""

    name: str
    rounds: dict[str, list[float]] = field(default_factory=dict)

    def add(self, figures: Costs) -> None:
        for name, figure in figures.items():
            self.rounds.setdefault(name, []).append(figure)


def alternate(rounds: int, measures: dict[str, Callable[[], Costs]]) -> list[Side]:
    """Calls each measure once in each round, alternating which goes first."""
    sides = {name: Side(name) for name in measures}
    for number in range(rounds):
        for name in list(sides)[:: -1 if number % 2 else 1]:
            sides[name].add(figures := measures[name]())
            print(f"    {name}: {', '.join(f'{key} {figure(one)}' for key, one in figures.items())}", flush=True)
    return list(sides.values())


def table(header: str, sides: list[Side]) -> None:
    """Prints the medians with the lowest and highest round, and the ratio of the second side to the first."""
    first, second = sides
    print(f"\n| {header} | {first.name} | {second.name} | ratio |\n|---|--:|--:|--:|")
    for name, ours in first.rounds.items():
        theirs = second.rounds[name]
        ratios = [other / one if one else 0.0 for one, other in zip(ours, theirs, strict=True)]
        print(f"| {name} | {' | '.join(map(spread, (ours, theirs, ratios)))} |", flush=True)


def spread(values: Collection[float]) -> str:
    return f"{figure(median(values))} ({figure(min(values))}–{figure(max(values))})"


def figure(number: float) -> str:
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"


# The write log --------------------------------------------------------------------------------------------------------


def append_all(servers: list[Redis], seconds: float) -> Costs:
    """Appends from several processes. Returns the rate, and the CPU time of the Redis servers for each append."""
    for server in servers:
        server.client.flushall()
    url = ",".join(f"redis://127.0.0.1:{server.port}/0" for server in servers)
    # New processes: redis-py and Django would not survive a fork.
    context = multiprocessing.get_context("spawn")
    together, counts = context.Barrier(PROCESSES + 1), context.Queue()
    writers = [context.Process(target=write, args=(url, seconds, together, counts)) for _ in range(PROCESSES)]
    for writer in writers:
        writer.start()
    together.wait(PATIENCE)
    pids, began = [server.process.pid for server in servers], time.monotonic()
    before = cpu(pids)
    appends = sum(counts.get(timeout=seconds + PATIENCE) for _ in writers)
    used, took = cpu(pids) - before, time.monotonic() - began
    for writer in writers:
        writer.join()
    return {
        "appends per second": appends / took,
        "CPU of Redis per append, µs": used / appends * 1e6,
        "appends per CPU second: the ceiling of one Redis": appends / used,
        "share of a core that each Redis used": used / took / len(servers),
    }


def write(url: str, seconds: float, together: Any, counts: Any) -> None:
    """Appends single messages for `seconds`, in a process of its own. Puts their number into `counts`."""
    os.environ.update(REDIS_URL=url, DJANGO_SETTINGS_MODULE="chatsystem.settings", WRITE_LOG_MAX_EVENTS="100000000")
    state = State(None)
    tokens = [secrets.token_hex(16) for _ in range(APPLICATIONS)]
    for token in tokens:
        state.append("", token, ["An application"], True)
        state.append(token, "", ["A chat"], True)
    together.wait(PATIENCE)
    end = time.monotonic() + seconds

    def post(seed: int) -> int:
        chance, appended = random.Random(seed), 0
        while time.monotonic() < end:
            state.append(f"{chance.choice(tokens)}/1", "", [TEXT], False)
            appended += 1
        return appended

    with ThreadPoolExecutor(THREADS) as threads:
        counts.put(sum(threads.map(post, range(THREADS))))


# The tiers ------------------------------------------------------------------------------------------------------------


class Tiers:
    """The product, with a process or more for each tier."""

    def __init__(self, stage: ExitStack, folder: Path, texts: Texts) -> None:
        self.texts = texts
        server = stage.enter_context(running.database_server())
        if server is None:
            raise SystemExit("Set DATABASE=mariadb or DATABASE=mysql.")
        self.node = Node()
        stage.callback(self.node.stop)
        self.state, self.other = stage.enter_context(redis_servers(folder / "tiers", 2))
        product = stage.enter_context(
            running.started(
                DATABASE_URL=server.new_database("product"),
                ELASTICSEARCH_URL=self.node.url,
                REDIS_URL=f"redis://127.0.0.1:{self.state.port}/0",
                CACHE_URL=f"redis://127.0.0.1:{self.other.port}/1",
                CELERY_BROKER_URL=f"redis://127.0.0.1:{self.other.port}/2",
            )
        )
        self.side = ProductSide(product, server, "product")
        # The side looks for the embedded Redis, which this product does not have.
        self.side.state = self.state.client
        (folder / "reference").mkdir()
        # Its empty view uses no database.
        self.reference = ReferenceSide(server, "reference", "", folder / "reference")
        stage.callback(self.reference.stop)

    def used(self) -> Costs:
        """Returns the CPU seconds of each tier since its start."""
        product, server = self.side.product, self.side.server
        assert server.process is not None
        pids = {
            "web": product.pids(WEB),
            "workers": product.pids(WORKER) | product.pids("celery_app beat "),
            "state Redis": {self.state.process.pid},
            "Redis of cache and broker": {self.other.process.pid},
            "database": {server.process.pid},
            "Elasticsearch": {self.node.process.pid},
        }
        return {tier: cpu(found) for tier, found in pids.items()}

    def post(self, seconds: float, batch: int = 1) -> Costs:
        """Posts for `seconds`, until everything is stored and indexed. Returns the CPU milliseconds of each message."""
        chats = self.side.open_chats()
        self._settle()
        requests = list(posts(chats, self.texts.first(20_000), batch))
        before = self.used()
        load = self.side.load(requests, max(round(seconds), 1))
        self._settle()
        after = self.used()
        rows, acknowledged = self.side.rows({chat.split("/")[2] for chat in chats}), load.accepted * batch
        # Requests that were in flight when the clients stopped may be stored too.
        assert not load.refused, f"{load.refused} requests rejected"
        assert acknowledged <= rows <= acknowledged + CONNECTIONS * batch, f"{rows} rows of {acknowledged} messages"
        costs = {tier: (after[tier] - before[tier]) / rows * 1000 for tier in after}
        return {**costs, ALL: sum(costs.values())}

    def request_empty_view(self, seconds: float) -> Costs:
        """Returns the CPU milliseconds of a request of the reference's web processes."""
        _, web, _ = self.reference.processes
        pids = {web.pid, *children(web.pid)}
        before = cpu(pids)
        load = self.reference.load([Request("GET", "/empty")], max(round(seconds), 1))
        return {EMPTY: (cpu(pids) - before) / load.accepted * 1000}

    def idle(self, seconds: float) -> Costs:
        """Returns the share of a core that each tier uses without any request."""
        before = self.used()
        time.sleep(seconds)
        return {tier: (used - before[tier]) / seconds for tier, used in self.used().items()}

    def _settle(self) -> None:
        def is_settled() -> bool:
            time.sleep(LOOK)
            return self.side.is_settled()

        eventually(is_settled, PATIENCE)


@contextmanager
def redis_servers(folder: Path, number: int) -> Iterator[list[Redis]]:
    servers = [Redis(folder / str(one)) for one in range(number)]
    with ExitStack() as stage:
        for server in servers:
            server.start()
            stage.callback(server.kill)
        yield servers


def print_sizes(sides: list[Side]) -> None:
    """Prints the cores that each tier would need, from its CPU time per message."""
    header = " | ".join(f"{rate:,} {side.name}" for side in sides for rate in RATES)
    print(f"\n| cores, calculated | {header} |\n|---|{'--:|' * len(RATES) * len(sides)}")
    columns = [
        [math.ceil(rate * median(costs) / 1000 / USED) for tier, costs in side.rounds.items() if tier != ALL]
        for side in sides
        for rate in RATES
    ]
    tiers = [tier for tier in sides[0].rounds if tier != ALL]
    for tier, *cores in [*zip(tiers, *columns, strict=True), (ALL, *map(sum, columns))]:
        print(f"| {tier} | {' | '.join(f'{number:,}' for number in cores)} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=10)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="chatsystem-bench-") as name:
        folder = Path(name)
        with redis_servers(folder / "log", 3) as servers:
            appended = alternate(
                given.rounds,
                {
                    "one Redis": lambda: append_all(servers[:1], given.seconds),
                    "three": lambda: append_all(servers, given.seconds),
                },
            )
        table("the write log", appended)
        with ExitStack() as stage:
            tiers = Tiers(stage, folder, Texts(None))
            # The Elasticsearch node compiles its hot code first.
            for batch in (BATCH, 1):
                tiers.post(WARM_SECONDS, batch)
            idle = Side("idle")
            idle.add(tiers.idle(given.seconds))
            *posted, empty = alternate(
                given.rounds,
                {
                    "single": lambda: tiers.post(given.seconds),
                    f"in batches of {BATCH}": lambda: tiers.post(given.seconds * BATCHES_SHARE, BATCH),
                    EMPTY: lambda: tiers.request_empty_view(given.seconds * BATCHES_SHARE),
                },
            )
        print(f"\nidle, share of a core: {', '.join(f'{tier} {used:.3f}' for tier, (used,) in idle.rounds.items())}")
        table("CPU milliseconds per message", posted)
        views = empty.rounds[EMPTY]
        print(f"\n| a single message in CPU times of {EMPTY}: {spread(views)} ms | |\n|---|--:|")
        for tier, costs in posted[0].rounds.items():
            print(f"| {tier} | {spread([cost / view for cost, view in zip(costs, views, strict=True)])} |", flush=True)
        print_sizes(posted)


if __name__ == "__main__":
    main()
