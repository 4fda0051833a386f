"""Starts what the benchmarks measure on first use: real servers, the product, and the reference implementation.

All share a machine, a database server and an Elasticsearch node. This process uses the settings of the first product,
so that it can call its drain and indexer.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import cycle, islice
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import django
import redis
import requests

from bench import centrifugo, running, wrk
from bench.centrifugo import Centrifugo
from bench.clients import Client
from bench.texts import Texts
from bench.wrk import CONNECTIONS, Load, Request
from chatsystem.conf.data_dir import DataDir
from chatsystem.embedded import redis_server
from chatsystem.embedded.parent_death import end_with_parent
from chatsystem.writelog.keys import PARTITIONS, Keys
from examples.chat_client import ChatClient
from tests.support.ports import free_port
from tests.support.product import BASE_DIR, Product, children, eventually
from tests.support.services.database_server import DatabaseServer
from tests.support.services.elasticsearch import Node
from tests.support.services.packages import Missing

WEB, LIVE, WORKER, BEAT, REDIS = "wsgi", "live.asgi", "celery_app worker ", "celery_app beat ", "redis-server"

#: The applications and chats that receive messages: several, to avoid contention for one row, and parallel drains.
APPLICATIONS, CHATS = 8, 4
#: The variables that this process copies from the product's environment.
COPIED = ("DATA_DIR", "DATABASE_URL", "ELASTICSEARCH_URL", "ELASTICSEARCH_INDEX_PREFIX")
#: The applications of a large installation, of which each writes a little.
MANY_APPLICATIONS = 300
#: The commit with which the product is compared.
BEFORE = os.environ.get("BEFORE", "2e5f50a")
#: The number of messages in a batch.
BATCH = 100
#: The number of requests to each web process before its memory is read for the first time.
FEW_REQUESTS = 1_000
#: Seconds within which everything acknowledged must be stored.
PATIENCE = 120.0


@dataclass(frozen=True, slots=True)
class Scale:
    """Durations of a round, and amounts of data."""

    rounds: int
    #: Rounds of `tenants`, `before` and `listeners`, whose sides differ by little.
    turns: int
    warm_seconds: int
    long_seconds: int
    #: Long enough for an index that is too slow to fall behind.
    lag_seconds: int
    seconds: int
    #: For batches: one second of them takes more than a second to index.
    batch_seconds: int
    backlog: int
    few: int
    many: int
    most: int
    requests: int


@dataclass(frozen=True, slots=True)
class Stored:
    """The rates of a period of posting, and until its messages were in the database."""

    load: Load
    #: Messages.
    acknowledged_rate: float
    stored_rate: float
    #: Seconds from the end of the load until nothing waited to be stored or indexed.
    lag: float


class Side:
    """A server of the API, and the database behind it."""

    def __init__(self, url: str, server: DatabaseServer, database: str) -> None:
        self.url, self.server, self.database = url, server, database
        self.client = ChatClient(url)
        #: The number of requests answered so far, without the rejected ones.
        self.requests = 0

    def load(self, requests: Collection[Request], seconds: int, connections: int = CONNECTIONS) -> Load:
        seen = wrk.load(self.url, requests, seconds, connections)
        self.requests += seen.accepted
        if seen.broken:
            raise AssertionError(f"{seen.broken} connections broke or timed out")
        return seen

    def open_chats(self, applications: int = APPLICATIONS, chats: int = CHATS) -> list[str]:
        """Creates chats and returns their paths."""
        paths = []
        for _ in range(applications):
            token = self.client.create_application("measured").token
            numbers = [self.client.create_chat(token, "measured").number for _ in range(chats)]
            paths += [f"/applications/{token}/chats/{number}" for number in numbers]
            self.requests += 1 + chats
        return paths

    def post(self, texts: Texts, seconds: int, batch: int = 1, chats: Sequence[str] = ()) -> Stored:
        """Posts to empty chats, by default to new ones, and waits until everything is stored and indexed.

        Raises AssertionError if there are fewer rows than acknowledged messages, or more than posted ones.
        """
        chats = chats or self.open_chats()
        tokens = {chat.split("/")[2] for chat in chats}
        self.wait_until_settled()
        requests = list(posts(chats, texts.first(20_000), batch))
        seen = self.load(requests, seconds)
        finished = time.monotonic()
        began = finished - seen.seconds
        acknowledged = seen.accepted * batch
        # If this times out, the check of the rows below fails.
        with suppress(AssertionError):
            eventually(lambda: self.rows(tokens) >= acknowledged, PATIENCE)
        ended = time.monotonic()
        self.wait_until_settled()
        lag = time.monotonic() - finished
        # Requests that were in flight when the clients stopped may be stored too.
        rows, most = self.rows(tokens), (seen.requests + CONNECTIONS) * batch
        if not acknowledged <= rows <= most:
            raise AssertionError(f"{rows:,} rows of {acknowledged:,} acknowledged messages and {most:,} posted ones")
        return Stored(seen, acknowledged / seen.seconds, acknowledged / (ended - began), lag)

    def rows(self, tokens: Collection[str]) -> int:
        marks = ", ".join(f"'{token}'" for token in tokens)
        ((count,),) = self.server.execute(
            f"SELECT COUNT(*) FROM {self.database}.messages_app_message WHERE chat_id IN (SELECT c.id FROM"
            f" {self.database}.chats_chat c JOIN {self.database}.applications_application a ON a.id = c.application_id"
            f" WHERE a.token IN ({marks}))"
        )
        time.sleep(0.05)
        return int(count)

    def wait_until_settled(self) -> None:
        eventually(self.is_settled, PATIENCE)

    def is_settled(self) -> bool:
        """Returns whether nothing waits to be stored or indexed."""
        raise NotImplementedError


class ProductSide(Side):
    def __init__(self, product: Product, server: DatabaseServer, database: str) -> None:
        super().__init__(product.url, server, database)
        self.product = product
        self.state: Any = redis.Redis(unix_socket_path=str(DataDir(product.data_dir).redis_socket))

    def is_settled(self) -> bool:
        ((entries,),) = self.server.execute(f"SELECT COUNT(*) FROM {self.database}.search_outboxentry")
        return entries == 0 and not any(self.state.xlen(Keys(partition).log) for partition in range(PARTITIONS))

    @contextmanager
    def standing_still(self, *programs: str) -> Iterator[None]:
        """Pauses the programs during the block, when nothing waits any more and no worker holds a lock."""
        self.wait_until_settled()
        with ExitStack() as paused:
            for program in programs:
                paused.enter_context(self.product.standing_still(program))
            yield

    def cpu(self, words: str) -> float:
        """Returns the CPU seconds of the processes whose command line contains the words."""
        return running.cpu(self.product.pids(words))

    def web_memory(self) -> dict[int, int]:
        """Returns the memory of each web process in bytes, by process id."""
        (master,) = self.product.mains(WEB)
        return {pid: resident(pid) for pid in children(master)}


class ReferenceSide(Side):
    """gunicorn and Celery in as many processes as the product has, and a separate Redis with default persistence."""

    def __init__(self, server: DatabaseServer, database: str, search_url: str, folder: Path) -> None:
        super().__init__(f"http://127.0.0.1:{free_port()}", server, database)
        self.folder = folder
        redis_port = free_port()
        self.broker: Any = redis.Redis(port=redis_port)
        self.environ = _project_environ(
            "bench.reference.settings",
            DATA_DIR=str(folder),
            DATABASE_URL=server.url(database),
            REDIS_URL=f"redis://127.0.0.1:{redis_port}/0",
            ELASTICSEARCH_URL=search_url,
        )
        if search_url:
            self._run("django", "search_index", "--create", "--skip-checks")
        celery = ["worker", "--pool", "prefork", "--concurrency", "5", "-l", "WARNING"]
        quiet = ["--without-gossip", "--without-mingle", "--without-heartbeat"]
        form = ["--workers", "2", "--threads", "8", "--worker-class", "gthread", "--keep-alive", "5"]
        address = ["--bind", urlsplit(self.url).netloc, "--no-control-socket"]
        python = [sys.executable, "-m"]
        self.processes = [
            self._start("redis", [redis_server.find(), "--port", str(redis_port), "--dir", str(folder)]),
            self._start("web", [*python, "gunicorn", *form, *address, "django.core.wsgi:get_wsgi_application()"]),
            self._start("worker", [*python, "celery", "--app", "bench.reference.celery", *celery, *quiet]),
        ]
        eventually(self._is_ready)

    def _run(self, *words: str) -> None:
        subprocess.run([sys.executable, "-m", *words], cwd=BASE_DIR, env=self.environ, check=True)

    def _start(self, name: str, command: list[str]) -> subprocess.Popen[bytes]:
        with (self.folder / f"{name}.log").open("wb") as log:
            return subprocess.Popen(
                command,
                cwd=BASE_DIR,
                env=self.environ,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=partial(end_with_parent, signal.SIGTERM, parent=os.getpid()),
            )

    def _is_ready(self) -> bool:
        try:
            return requests.get(f"{self.url}/empty", timeout=5).status_code == 200 and bool(self.broker.ping())
        except (requests.RequestException, redis.RedisError):
            return False

    def stop(self) -> None:
        for process in reversed(self.processes):
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def is_settled(self) -> bool:
        # kombu's keys for waiting messages and for those that a worker has fetched.
        return not self.broker.llen("celery") and not self.broker.hlen("unacked")


class Stack:
    def __init__(self, scale: Scale, texts: Texts, reference_indexes: bool) -> None:
        self.scale, self.texts, self.reference_indexes = scale, texts, reference_indexes
        self.closing = ExitStack()
        self.began = time.monotonic()

    def start(self) -> None:
        """Starts the product on the database server and the cluster, and sets this process up with its settings."""
        self.product = self._product("product")
        environ = self.product.product.environ()
        os.environ.update({name: environ[name] for name in COPIED})
        os.environ["DJANGO_SETTINGS_MODULE"] = "chatsystem.settings"
        django.setup()
        self._first_message(self.product)
        self.say("warming it up")
        chats = self.product.open_chats(APPLICATIONS + APPLICATIONS // 2, 1)
        for chat in chats:
            self.product.client.create_messages(chat.split("/")[2], 1, self.texts.first(1_000))
        self.every_kind_of_request = list(_every_kind(chats[:APPLICATIONS], chats[APPLICATIONS:], self.texts))
        asyncio.run(self._warm_up())
        self.memory_at_first = self.product.web_memory()
        # Lets the cluster compile its hot code, which otherwise takes a core during the first minute.
        self.product.post(self.texts, self.scale.warm_seconds, BATCH)

    def say(self, what: str) -> None:
        print(f"{time.monotonic() - self.began:6.0f} s  {what}", flush=True)

    def close(self) -> None:
        self.closing.close()

    def _enter(self, context: AbstractContextManager[Any]) -> Any:
        return self.closing.enter_context(context)

    @cached_property
    def server(self) -> DatabaseServer:
        self.say("starting the database server")
        server: DatabaseServer | None = self._enter(running.database_server())
        if server is None:
            raise SystemExit("Set DATABASE=mariadb or DATABASE=mysql.")
        return server

    @cached_property
    def node(self) -> Node:
        self.say("starting Elasticsearch")
        node = Node()
        self.closing.callback(node.stop)
        return node

    def cpu(self, side: ProductSide) -> dict[str, float]:
        """Returns the CPU seconds of each tier since its start. The sides share the database and the cluster."""
        assert self.server.process is not None
        return {
            "web": side.cpu(WEB),
            "workers and beat": side.cpu(WORKER) + side.cpu(BEAT),
            "live": side.cpu(LIVE),
            "Redis": side.cpu(REDIS),
            "database": running.cpu({self.server.process.pid}),
            "Elasticsearch": running.cpu({self.node.process.pid}),
        }

    async def _warm_up(self) -> None:
        requests = islice(cycle(self.every_kind_of_request), FEW_REQUESTS * len(self.product.web_memory()))

        async def work() -> None:
            client = Client(self.product.url)
            for method, path, data in requests:
                response = await client.request(method, path, data)
                assert response.status < 400, f"{method} {path}: {response.status}"
                self.product.requests += 1
            client.close()

        await asyncio.gather(*(work() for _ in range(CONNECTIONS)))

    @cached_property
    def small(self) -> ProductSide:
        """A second product, whose database stays small."""
        side = self._product("small")
        self._first_message(side)
        return side

    @cached_property
    def before(self) -> ProductSide:
        """The product as it was at the commit BEFORE, on the same servers."""
        self.say(f"installing the product of {BEFORE}")
        side = self._product("former", self._enter(running.checkout(BEFORE)))
        self._first_message(side)
        return side

    def _product(self, name: str, product: type[Product] = Product) -> ProductSide:
        url = self.server.new_database(name)
        search = {"ELASTICSEARCH_URL": self.node.url, "ELASTICSEARCH_INDEX_PREFIX": f"{name}-messages"}
        self.say(f"starting the product ({name})")
        return ProductSide(self._enter(running.started(product, DATABASE_URL=url, **search)), self.server, name)

    def _first_message(self, side: ProductSide) -> None:
        """Posts a message, which makes the product create its index."""
        (chat,) = side.open_chats(1, 1)
        side.client.create_message(chat.split("/")[2], 1, "the first message")
        eventually(lambda: side.rows({chat.split("/")[2]}) == 1)
        side.wait_until_settled()

    @cached_property
    def embedded(self) -> Product:
        """The product without any settings."""
        self.say("starting the product (embedded)")
        started: Product = self._enter(running.started())
        return started

    @cached_property
    def centrifugo(self) -> Centrifugo | None:
        """None where it cannot be built."""
        self.say(f"starting {centrifugo.NAME}")
        folder = Path(self._enter(tempfile.TemporaryDirectory(prefix="chatsystem-bench-")))
        try:
            node = Centrifugo(folder)
        except Missing as error:
            self.say(f"left out: {error}")
            return None
        self.closing.callback(node.stop)
        return node

    @cached_property
    def raw(self) -> str:
        """The name of a database with the product's tables, which is written without the product."""
        url = self.server.new_database("reference")
        # Without the system checks, which look for the state Redis.
        command = [sys.executable, "-m", "django", "migrate", "--skip-checks", "--verbosity", "0"]
        with tempfile.TemporaryDirectory() as folder:
            environ = _project_environ("chatsystem.settings", DATABASE_URL=url, DATA_DIR=folder)
            subprocess.run(command, cwd=BASE_DIR, env=environ, check=True)
        return "reference"

    @cached_property
    def reference(self) -> ReferenceSide:
        database, search = self.raw, self.node.url if self.reference_indexes else ""
        self.say("starting the reference implementation")
        folder = Path(self._enter(tempfile.TemporaryDirectory(prefix="chatsystem-bench-")))
        side = ReferenceSide(self.server, database, search, folder)
        self.closing.callback(side.stop)
        return side


def posts(chats: Sequence[str], bodies: Sequence[str], batch: int) -> Iterator[Request]:
    for number, start in enumerate(range(0, len(bodies) - batch + 1, batch)):
        messages = [{"body": body} for body in bodies[start : start + batch]]
        yield Request("POST", f"{chats[number % len(chats)]}/messages", messages if batch > 1 else messages[0])


def _every_kind(busy: Sequence[str], quiet: Sequence[str], texts: Texts) -> Iterator[Request]:
    """Yields about 2,000 requests to several applications, because one alone gets only some of a process's threads."""
    bodies = [{"body": body} for body in texts.first(BATCH)]
    # The large ones first, in a row: memory peaks when a process handles several of them at once.
    large = [busy[number % len(busy)] for number in range(CONNECTIONS)]
    yield from [Request("POST", f"{chat}/messages", bodies) for chat in large]
    yield from [Request("GET", f"{chat}/messages?limit=1000") for chat in large]
    for number, (body, query) in enumerate(zip(bodies, texts.queries(len(bodies), seed=0), strict=True), 1):
        chat = busy[number % len(busy)]
        messages, application = f"{chat}/messages", chat.split("/")[2]
        yield from [Request("POST", messages, body)] * 2
        yield Request("GET", f"{messages}/{number}")
        yield Request("GET", chat)
        # What clients request most often.
        for other in quiet:
            yield from [Request("GET", f"{other}/messages?order=desc")] * 4
        # Fewer of the expensive ones.
        if number % 10 == 1:
            yield Request("PATCH", f"{messages}/1", body)
            yield Request("GET", f"{messages}?after={number}")
            yield Request("GET", f"/search/{quote(query)}?application={application}")


def _project_environ(settings: str, **given: str) -> dict[str, str]:
    inherited = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR") if name in os.environ}
    return {**inherited, "DJANGO_SETTINGS_MODULE": settings, **given}


def resident(pid: int) -> int:
    """Returns the memory of a process in bytes."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
