"""Measures sizes: in the state Redis, in the database, in the search indexes, and of the processes.

    .venv/bin/python -m bench.sizes [--messages 1000000] [--texts LOG.jsonl.gz]

The product's own scripts write parents, events and receipts to a separate state Redis; the growth of its memory is
divided by their number. Then the messages are posted, in batches of 100 to 1,000 chats in turn, to two products: one
on the database server that DATABASE names (default: mariadb) with an Elasticsearch node, and an embedded one. The
sizes of the tables and indexes are divided by the number of messages. Prints the tables of docs/capacity.md.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import secrets
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from itertools import count
from pathlib import Path
from typing import Any

os.environ.setdefault("DATABASE", "mariadb")

import django
import redis
import requests

from bench import running
from bench.clients import Client
from bench.stack import BATCH
from bench.texts import Texts
from chatsystem.conf.data_dir import DataDir
from chatsystem.embedded import redis_server
from tests.support.product import Product, eventually
from tests.support.services import elasticsearch
from tests.support.services.elasticsearch import Node

APPLICATIONS, CHATS_OF_EACH = 100, 10
CLIENTS = 16
#: Seconds within which everything posted must be stored and indexed.
PATIENCE = 600.0
#: The numbers of keys written to the state Redis. Not near a power of two, where Redis doubles its hash tables.
PARENTS, EVENTS = 24_000, 100_000
PAGES = 1_000
Row = tuple[Any, ...]

PROCESSES = {
    "web": "chatsystem.wsgi",
    "worker": "celery_app worker ",
    "beat": "celery_app beat ",
    "Redis": "redis-server ",
}


def table(header: str, rows: list[Row]) -> None:
    columns = header.split(" | ")
    print(f"\n| {header} |\n|---|{'---:|' * (len(columns) - 1)}", flush=True)
    for name, *figures in rows:
        print(f"| {name} | {' | '.join(f'{figure:,.0f}' for figure in figures)} |", flush=True)


# The state Redis ------------------------------------------------------------------------------------------------------


class State:
    """The state Redis of REDIS_URL, or several, written by the product's own scripts."""

    def __init__(self, server: Any) -> None:
        # Imported here, because `state` sets the environment that configures them.
        django.setup()
        from chatsystem.writelog import append, redis_client, redis_guards, stream
        from chatsystem.writelog.scripts import incarnation

        self.server, self.appending, self.stream = server, append, stream
        # What the first sweep does, without the database.
        for partitions in redis_client.groups():
            first = partitions[0]
            mine, until = incarnation(first), redis_client.now(first) + 24 * 60 * 60 * 1_000_000
            none = dict.fromkeys(partitions, 0)
            redis_guards.pass_fences(none, mine, dict.fromkeys(partitions, mine), none)
            redis_guards.renew_leases(partitions, mine, until)

    def grown(self, put: Callable[[], object]) -> int:
        """Returns the growth of the memory in bytes."""
        before = self._used()
        put()
        return self._used() - before

    def _used(self) -> int:
        memory = self.server.info("memory")
        return int(memory["used_memory"] - memory["mem_clients_normal"] - memory["mem_aof_buffer"])

    def append(self, parent: str, name: str, texts: Sequence[str], can_have_children: bool) -> str:
        """Appends a create. Returns its token or number."""
        token = parent.partition("/")[0] or name
        key = self.appending.RequestKey(secrets.token_hex(16), lifetime=3_600)
        write = self.appending.Write("create", parent, name, texts, can_have_children)
        status, *answer = self.appending.run_append(token, write, key, token)
        assert status == "ok", status
        return answer[1]

    def drain(self) -> None:
        """Empties the log as drains do, without the database."""
        for partition, events in self.stream.lengths().items():
            stored = self.stream.read({partition: events})[partition].events
            self.stream.remove([self.stream.Removal(partition, stored[-1].arrival, stored)])

    def forget_receipts(self) -> None:
        for key in self.server.scan_iter(match="*:receipt:*", count=10_000):
            self.server.delete(key)


@contextmanager
def state() -> Iterator[State]:
    with tempfile.TemporaryDirectory(prefix="chatsystem-bench-") as folder:
        os.environ.update(DATA_DIR=folder, DJANGO_SETTINGS_MODULE="chatsystem.settings")
        data_dir = DataDir(Path(folder))
        for needed in (data_dir.redis, data_dir.redis_socket.parent):
            needed.mkdir(parents=True, exist_ok=True)
        process = subprocess.Popen(redis_server.command(data_dir), stdout=subprocess.DEVNULL)
        try:
            eventually(lambda: redis_server.ping(data_dir) == "PONG")
            with redis.Redis(unix_socket_path=str(data_dir.redis_socket)) as server:
                yield State(server)
        finally:
            process.kill()
            process.wait()


def measure_state(state: State) -> None:
    tokens = [secrets.token_hex(16) for _ in range(PARENTS)]

    def parents(create: Callable[[int], object]) -> tuple[float, float]:
        """Returns the bytes that a parent takes permanently, and those of its receipt until it expires."""

        def create_all() -> None:
            for number in range(PARENTS):
                create(number)
            state.drain()

        grown = state.grown(create_all)
        receipts = -state.grown(state.forget_receipts)
        return (grown - receipts) / PARENTS, receipts / PARENTS

    def pending(bytes: int) -> float:
        texts = ["x" * bytes] * BATCH
        posts = range(EVENTS // BATCH)
        grown = state.grown(lambda: [state.append(f"{tokens[n % len(tokens)]}/1", "", texts, False) for n in posts])
        state.drain()
        state.forget_receipts()
        return grown / EVENTS

    application, _ = parents(lambda n: state.append("", tokens[n], ["An application"], True))
    chat, receipt = parents(lambda n: state.append(tokens[n], "", ["A chat"], True))
    table(
        f"Redis {state.server.info('server')['redis_version']} | bytes",
        [
            ("an application that was written to", application),
            ("a chat that was written to", chat),
            ("a receipt", receipt),
            ("an event that waits, 200 bytes", pending(200)),
            ("an event that waits, 1,000 bytes", pending(1_000)),
        ],
    )


# What is stored -------------------------------------------------------------------------------------------------------


async def post(url: str, bodies: Sequence[str]) -> list[str]:
    """Posts the bodies. Returns the paths of the chats' messages."""
    client = Client(url)
    paths = []
    for _ in range(APPLICATIONS):
        chats = f"/applications/{(await client.post('/applications', {'name': 'measured'})).json()['token']}/chats"
        for number in range(1, CHATS_OF_EACH + 1):
            assert (await client.post(chats, {"title": "measured"})).status == 201
            paths.append(f"{chats}/{number}/messages")
    client.close()
    batches = iter(range(0, len(bodies), BATCH))
    turns = count()

    async def post_batches() -> None:
        client = Client(url)
        for start in batches:
            messages = [{"body": body} for body in bodies[start : start + BATCH]]
            path = paths[next(turns) % len(paths)]
            while (answer := await client.post(path, messages)).status != 201:
                assert answer.status == 503, answer
                await asyncio.sleep(answer.retry_after)
        client.close()

    await asyncio.gather(*(post_batches() for _ in range(CLIENTS)))
    return paths


def is_settled(product: Product) -> bool:
    metrics = dict(line.rsplit(" ", 1) for line in requests.get(f"{product.url}/metrics", timeout=30).text.splitlines())
    return float(metrics["chatsystem_log_events"]) == float(metrics["chatsystem_outbox_entries"]) == 0


def fill(product: Product, bodies: Sequence[str]) -> list[str]:
    paths = asyncio.run(post(product.url, bodies))
    eventually(lambda: is_settled(product), PATIENCE)
    return paths


def measure_pages(product: Product, paths: Sequence[str]) -> float:
    """Returns the bytes that a page of 50 messages takes in the cache."""
    with closing(redis.Redis(unix_socket_path=str(DataDir(product.data_dir).redis_socket))) as server:
        before = server.info("memory")["used_memory_dataset"]
        for number in range(PAGES):
            requests.get(f"{product.url}{paths[number % len(paths)]}?after={number // len(paths)}", timeout=30)
        return float(server.info("memory")["used_memory_dataset"] - before) / PAGES


def processes(product: Product) -> list[Row]:
    """Returns for each kind the number of processes, and MB: resident in the largest, proportional (PSS) in all."""
    found = []
    for name, words in PROCESSES.items():
        pids = product.pids(words)
        found.append((name, len(pids), max(map(resident, pids)) / 1e6, sum(map(proportional, pids)) / 1e6))
    return found


def resident(pid: int) -> int:
    return _memory(pid, "Rss")


def proportional(pid: int) -> int:
    return _memory(pid, "Pss")


def _memory(pid: int, kind: str) -> int:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{kind}:"))


def measure_server(bodies: Sequence[str]) -> list[Row]:
    """Measures the product on the database server and the cluster."""
    with ExitStack() as closing:
        server = closing.enter_context(running.database_server())
        if server is None:
            raise SystemExit("Set DATABASE=mariadb or DATABASE=mysql.")
        node = Node()
        closing.callback(node.stop)
        settings = {"DATABASE_URL": server.new_database("product"), "ELASTICSEARCH_URL": node.url}
        product = closing.enter_context(running.started(**settings))
        paths = fill(product, bodies)
        table("processes | number | MB of the largest | MB of all", processes(product))
        print(f"\nA page of 50 in the cache: {measure_pages(product, paths):,.0f} bytes", flush=True)
        ((version, data, indexes),) = server.execute(
            "ANALYZE TABLE product.messages_app_message",
            "SELECT VERSION(), data_length, index_length FROM information_schema.tables"
            " WHERE table_schema = 'product' AND table_name = 'messages_app_message'",
        )
        requests.post(f"{node.url}/_flush").raise_for_status()
        stored = requests.get(f"{node.url}/_stats/store").json()["_all"]["primaries"]["store"]["size_in_bytes"]
        return [
            (f"{version}: rows", data / len(bodies)),
            (f"{version}: their index", indexes / len(bodies)),
            (f"Elasticsearch {elasticsearch.VERSION}", stored / len(bodies)),
        ]


def measure_embedded(bodies: Sequence[str]) -> list[Row]:
    with running.started() as product:
        fill(product, bodies)
        product.stop()
        data_dir = DataDir(product.data_dir)
        return [
            ("SQLite, the index of numbers included", data_dir.database.stat().st_size / len(bodies)),
            ("FTS5", data_dir.search_index.stat().st_size / len(bodies)),
        ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=1_000_000)
    parser.add_argument(
        "--texts", type=Path, help="a chat log of JSON lines, each with a body, instead of generated texts"
    )
    given = parser.parse_args()
    with state() as alone:
        measure_state(alone)
    bodies = Texts(given.texts).first(given.messages)
    text = sum(len(body.encode()) for body in bodies) / len(bodies)
    table(
        f"{len(bodies):,} messages | bytes of each",
        [("its text", text), *measure_server(bodies), *measure_embedded(bodies)],
    )


if __name__ == "__main__":
    main()
