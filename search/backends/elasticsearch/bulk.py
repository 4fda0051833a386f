"""Writing many documents at once, each answered for itself. Documented in docs/search.md."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

from elasticsearch import ApiError

from search.backends.base import SearchUnavailable
from search.backends.elasticsearch.client import patient_client
from search.backends.elasticsearch.document import to_source
from search.documents import Document

logger = logging.getLogger(__name__)

#: Of one request. The cluster takes up to 100 MB, and works while the next one is made.
CHUNK_BYTES = 5_000_000
CHUNK_OPERATIONS = 500
#: Seconds before each new try of what the cluster was too busy for.
BACKOFF = (0.1, 0.5, 1.0)
#: How long the cluster may wait for a shard that is not there yet, as after its start. With the minute that it takes by
#: itself it would be given up as one that hangs, and be asked again long after it was ready.
SHARD_TIMEOUT = "1s"

#: What is left of an answer; the rest is longer than the documents.
ANSWERED = ["errors", "items.*.status", "items.*.error.type"]


class Moved(Exception):
    """An alias that was written to is gone: a rebuild ended meanwhile."""


class Operation(NamedTuple):
    id: int
    action: str
    source: str


def write(documents: Iterable[Document], aliases: Sequence[str]) -> None:
    """Writes the documents to the index behind each alias; one that is older than what is there changes nothing.

    What the cluster calls wrong (400) is logged and left out: no retry would mend it, and all after it would wait.
    Raises Moved and SearchUnavailable, both with part of the documents written.
    """
    chunks = _chunks(_operations(documents, aliases))
    # The next one is made while the cluster is at the one before.
    with ThreadPoolExecutor(1) as maker:
        coming = maker.submit(next, chunks, None)
        while chunk := coming.result():
            coming = maker.submit(next, chunks, None)
            _send_in_tries(chunk)


def _send_in_tries(operations: list[Operation]) -> None:
    for pause in (*BACKOFF, None):
        operations = _send(operations)
        if not operations:
            return
        if pause is None:
            raise SearchUnavailable(f"the cluster is too busy for {len(operations)} documents")
        time.sleep(pause)


def _operations(documents: Iterable[Document], aliases: Sequence[str]) -> Iterator[Operation]:
    for document in documents:
        source = json.dumps(to_source(document), ensure_ascii=False)
        for alias in aliases:
            target = {"_index": alias, "_id": str(document.id), "require_alias": True}
            version = {"version": document.version, "version_type": "external_gte"}
            yield Operation(document.id, json.dumps({"index": target | version}), source)


def _chunks(operations: Iterator[Operation]) -> Iterator[list[Operation]]:
    chunk: list[Operation] = []
    size = 0
    for operation in operations:
        chunk.append(operation)
        size += len(operation.source)
        if size >= CHUNK_BYTES or len(chunk) >= CHUNK_OPERATIONS:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def _send(operations: list[Operation]) -> list[Operation]:
    """Returns those to be tried again."""
    lines = [line for operation in operations for line in (operation.action, operation.source)]
    try:
        answer = patient_client().bulk(
            operations=lines,  # type: ignore[arg-type]  # It takes lines that are JSON already.
            timeout=SHARD_TIMEOUT,
            filter_path=ANSWERED,
        )
    except ApiError as error:
        if _is_passing(error.status_code):
            return operations
        raise
    if not answer["errors"]:
        return []
    items = [item["index"] for item in answer["items"]]
    return [operation for operation, item in zip(operations, items, strict=True) if not _is_settled(operation, item)]


def _is_settled(operation: Operation, item: dict[str, Any]) -> bool:
    status = item["status"]
    # 409: the index holds a newer version, which is as good.
    if status < 300 or status == 409:
        return True
    kind = item["error"]["type"]
    if status == 400:
        logger.error("the index refuses message %s for good: %s", operation.id, kind)
        return True
    if status == 404:
        raise Moved
    if _is_passing(status):
        return False
    raise SearchUnavailable(f"the cluster takes no documents: {status} {kind}")


def _is_passing(status: int) -> bool:
    return status == 429 or status >= 500
