"""What things weigh: in the state Redis, in the database, in the search indexes, and each process.

    .venv/bin/python -m bench.sizes [--messages 1000000] [--texts LOG.jsonl.gz]

A state Redis that nobody else uses is given parents, events and receipts by the product's own scripts; what its
memory grows by is divided by their number. Then the messages are posted to two products, one on the database server
that DATABASE names (mariadb) with an Elasticsearch node, one embedded, in batches of 100 to 1,000 chats in turn; what
is stored and indexed is divided by their number. Prints the tables of docs/capacity.md.
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

import redis
import requests

from bench import running
from bench.clients import Client
from bench.stack import BATCH
from bench.texts import Texts
from chatsystem.data_dir import DataDir
from chatsystem.embedded import redis_server
from tests.embedded.product import Product, eventually
from tests.services import elasticsearch
from tests.services.elasticsearch import Node

APPLICATIONS, CHATS_OF_EACH = 100, 10
CLIENTS = 16
#: Seconds within which what was posted has to be stored and indexed.
PATIENCE = 600.0
#: Of each thing that is put into the state Redis. Not near a power of two, at which Redis doubles its tables.
PARENTS, EVENTS = 24_000, 100_000
PAGES = 1_000
Row = tuple[Any, ...]

PROCESSES = {"web": " gunicorn ", "worker": "celery_app worker ", "beat": "celery_app beat ", "Redis": "redis-server "}


def table(header: str, rows: list[Row]) -> None:
    columns = header.split(" | ")
    print(f"\n| {header} |\n|---|{'---:|' * (len(columns) - 1)}", flush=True)
    for name, *figures in rows:
        print(f"| {name} | {' | '.join(f'{figure:,.0f}' for figure in figures)} |", flush=True)


# The state Redis ------------------------------------------------------------------------------------------------------


class State:
    """A state Redis as `make run` starts it, and the product's own ways into it."""

    def __init__(self, server: Any) -> None:
        # Configured by what `state` has put into the environment.
        from chatsystem.writelog import keys, log

        self.server, self.keys, self.log = server, keys, log
        for partition in range(keys.PARTITIONS):
            log.pass_fence(partition, 0)

    def grown(self, put: Callable[[], object]) -> int:
        """Bytes."""
        before = self._used()
        put()
        return self._used() - before

    def _used(self) -> int:
        memory = self.server.info("memory")
        return int(memory["used_memory"] - memory["mem_clients_normal"] - memory["mem_aof_buffer"])

    def append(self, parent: str, name: str, texts: Sequence[str], fertile: bool) -> str:
        """A create; returns the token or number that it was given."""
        token = parent.partition("/")[0] or name
        request_id = self.log.RequestId(token, secrets.token_hex(16), secrets.token_hex(16), lifetime=3_600)
        answer = self.log.append(token, self.log.Write("create", parent, name, texts, fertile), request_id)
        assert answer.status == "ok", answer
        return answer.name

    def drain(self) -> None:
        """As drains leave it, without the database."""
        for partition, events in self.log.lengths().items():
            stored = self.log.read(partition, events)
            self.log.remove(partition, stored[-1].arrival, stored)

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


def weigh_state(state: State) -> None:
    tokens = [secrets.token_hex(16) for _ in range(PARENTS)]

    def parents(create: Callable[[int], object]) -> tuple[float, float]:
        """Bytes that each leaves behind for good, and that its receipt takes meanwhile."""

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
    """Returns the paths of the chats' messages."""
    client = Client(url)
    paths = []
    for _ in range(APPLICATIONS):
        chats = f"/applications/{(await client.post('/applications', {'name': 'weighed'})).json()['token']}/chats"
        for number in range(1, CHATS_OF_EACH + 1):
            assert (await client.post(chats, {"title": "weighed"})).status == 201
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


def weigh_pages(product: Product, paths: Sequence[str]) -> float:
    """Of 50 messages each."""
    with closing(redis.Redis(unix_socket_path=str(DataDir(product.data_dir).redis_socket))) as server:
        before = server.info("memory")["used_memory_dataset"]
        for number in range(PAGES):
            requests.get(f"{product.url}{paths[number % len(paths)]}?after={number // len(paths)}", timeout=30)
        return float(server.info("memory")["used_memory_dataset"] - before) / PAGES


def processes(product: Product) -> list[Row]:
    """How many of each there are, and their megabytes: resident ones of the largest, and all that none shares."""
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


def weigh_server(bodies: Sequence[str]) -> list[Row]:
    """The database server and the cluster."""
    with ExitStack() as closing:
        server = closing.enter_context(running.database_server())
        if server is None:
            raise SystemExit("A server is needed: DATABASE=mariadb or DATABASE=mysql.")
        node = Node()
        closing.callback(node.stop)
        settings = {"DATABASE_URL": server.new_database("product"), "ELASTICSEARCH_URL": node.url}
        product = closing.enter_context(running.started(**settings))
        paths = fill(product, bodies)
        table("processes | number | MB of the largest | MB of all", processes(product))
        print(f"\nA page of 50 in the cache: {weigh_pages(product, paths):,.0f} bytes", flush=True)
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


def weigh_embedded(bodies: Sequence[str]) -> list[Row]:
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
    parser.add_argument("--texts", type=Path, help="a chat log, JSON lines with a body each, in place of made-up texts")
    given = parser.parse_args()
    with state() as alone:
        weigh_state(alone)
    bodies = Texts(given.texts).first(given.messages)
    text = sum(len(body.encode()) for body in bodies) / len(bodies)
    table(
        f"{len(bodies):,} messages | bytes of each",
        [("its text", text), *weigh_server(bodies), *weigh_embedded(bodies)],
    )


if __name__ == "__main__":
    main()
