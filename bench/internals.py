"""Calls the product's drain and indexer directly, and fills its indexes. Import it after django.setup()."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from itertools import islice
from pathlib import Path
from typing import Any

from django.db import connection
from elasticsearch import Elasticsearch, helpers

from bench.clients import Client
from bench.wrk import CONNECTIONS, Request
from chatsystem.writelog.drain import drain
from chatsystem.writelog.events import to_datetime, to_micros
from chatsystem.writelog.keys import partition_of
from chatsystem.writelog.redis_client import groups
from search import outbox
from search.backends.elasticsearch import indexes
from search.backends.elasticsearch.document import mapping, to_source
from search.backends.fts5 import Fts5Backend
from search.documents import Document, documents_by_number
from search.models import OutboxEntry

#: The arrival of every generated message.
MOMENT = datetime(2023, 11, 14, tzinfo=timezone.utc)
#: The number of documents in one request, as in the product.
AT_ONCE = 2_000
#: The number of threads that fill the cluster. Few, so that the cluster has processor time left.
FILLERS = 2


def drain_application(token: str) -> int:
    """Drains the application's partition. Returns the number of events."""
    # The server may have closed the connection after a long idle time.
    connection.close()
    return drain([partition_of(token)])


def drain_all() -> int:
    """Drains every partition that has events. Returns their number."""
    connection.close()
    return sum(drain(partitions) for partitions in groups())


def post(url: str, requests: Iterable[Request]) -> None:
    """Sends the requests once each."""
    waiting = iter(requests)

    async def work() -> None:
        client = Client(url)
        for method, path, data in waiting:
            response = await client.request(method, path, data)
            assert response.status < 400, response
        client.close()

    async def all_of_them() -> None:
        await asyncio.gather(*(work() for _ in range(CONNECTIONS)))

    asyncio.run(all_of_them())


def index_outbox(seconds: float) -> tuple[list[Document], float]:
    """Indexes the outbox for `seconds`. Returns the indexed documents and the seconds that it took."""
    connection.close()
    waiting = {entry.pk: entry.messages for entry in OutboxEntry.objects.all()}
    began = time.monotonic()
    outbox.index(seconds)
    took = time.monotonic() - began
    left = set(OutboxEntry.objects.values_list("pk", flat=True))
    gone = (pair for key, messages in waiting.items() if key not in left for pair in messages)
    return list(documents_by_number(gone).values()), took


def clear_outbox() -> None:
    """Empties the outbox, so that the rest is not indexed during the next benchmark."""
    connection.close()
    OutboxEntry.objects.all().delete()


def bulk(url: str, documents: Iterable[Document]) -> float:
    """Indexes the documents in a temporary index with the product's mapping. Returns the seconds that it took."""
    actions: list[dict[str, Any]] = [{"_id": document.id, "_source": to_source(document)} for document in documents]
    with Elasticsearch(url, request_timeout=60) as cluster:
        cluster.indices.create(
            index="raw", mappings=mapping(), settings=indexes.building_settings() | indexes.service_settings()
        )
        began = time.monotonic()
        helpers.bulk(cluster, actions, index="raw", chunk_size=AT_ONCE)
        took = time.monotonic() - began
        cluster.indices.delete(index="raw")
    return took


# Filling --------------------------------------------------------------------------------------------------------------


def fill_cluster(url: str, messages: Iterable[tuple[int, int]], token: str, bodies: Sequence[str]) -> None:
    """Indexes messages, given as (id, number), of a chat 1 that repeats the bodies in order."""
    alias = indexes.live_alias()
    # Each body is analyzed once.
    moment = to_micros(MOMENT)
    made: dict[int, str] = {}

    def lines() -> Iterator[str]:
        for id, number in messages:
            index = (number - 1) % len(bodies)
            if index not in made:
                source = to_source(Document(0, moment, token, 1, 0, bodies[index], MOMENT))
                made[index] = json.dumps({key: source[key] for key in source if key not in ("id", "number")})[1:]
            yield json.dumps({"index": {"_id": str(id), "version": moment, "version_type": "external_gte"}})
            yield f'{{"id": {id}, "number": {number}, {made[index]}'

    source, lock = lines(), threading.Lock()
    with Elasticsearch(url, request_timeout=120) as cluster:
        held = {"refresh_interval": "-1", "translog": {"durability": "async"}}
        cluster.indices.put_settings(index=alias, settings=held)

        def send() -> None:
            while True:
                with lock:
                    chunk = list(islice(source, 2 * AT_ONCE))
                if not chunk:
                    return
                response = cluster.bulk(index=alias, operations=chunk, filter_path="errors")  # type: ignore[arg-type]
                assert not response["errors"]

        with ThreadPoolExecutor(FILLERS) as pool:
            for filler in [pool.submit(send) for _ in range(FILLERS)]:
                filler.result()
        held = {"refresh_interval": "1s", "translog": {"durability": "request"}}
        cluster.indices.put_settings(index=alias, settings=held)
        cluster.indices.refresh(index=alias)


def fill_embedded(path: Path, token: str, bodies: Sequence[str], count: int) -> None:
    """Indexes messages 1 to `count` of chat 1 of a new application."""
    moment = to_micros(MOMENT)
    backend = Fts5Backend(path)
    with backend.rebuild():
        for start in range(0, count, AT_ONCE):
            numbers = range(start + 1, min(start + AT_ONCE, count) + 1)
            backend.index(
                [
                    Document(n, moment + n, token, 1, n, bodies[(n - 1) % len(bodies)], to_datetime(moment + n))
                    for n in numbers
                ]
            )
