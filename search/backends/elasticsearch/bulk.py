"""Writes many documents in one request and checks the result of each. Documented in docs/search.md."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

from elasticsearch import ApiError

from search.backends.base import SearchUnavailable
from search.backends.elasticsearch.client import indexing_client
from search.backends.elasticsearch.document import to_source
from search.documents import Document

logger = logging.getLogger(__name__)

#: Limits of one request. The cluster accepts up to 100 MB; smaller requests let it index one while the next is made.
CHUNK_BYTES = 5_000_000
CHUNK_OPERATIONS = 500
#: Seconds before each retry of documents that the cluster was too busy for.
BACKOFF = (0.1, 0.5, 1.0)
#: How long the cluster waits for a shard that has not started yet. With its default of a minute, INDEXING_TIMEOUT would
#: end the request first, and the cluster would get the next one long after it was ready.
SHARD_TIMEOUT = "1s"

#: The fields of a response that are read. The others are longer than the documents.
RESPONSE_FIELDS = ["errors", "items.*.status", "items.*.error.type"]


class AliasMoved(Exception):
    """An alias that was written to is gone, because a rebuild ended meanwhile."""


class Operation(NamedTuple):
    id: int
    action: str
    source: str


def write(documents: Iterable[Document], aliases: Sequence[str]) -> None:
    """Writes the documents to the index behind each alias, except those of which it has a newer version.

    A document that the cluster rejects (400) is logged and skipped: no retry would succeed, and all later documents
    would wait. Raises AliasMoved or SearchUnavailable, both after part of the documents may have been written.
    """
    chunks = _chunks(_operations(documents, aliases))
    # A thread prepares the next request while the cluster handles this one.
    with ThreadPoolExecutor(1) as maker:
        coming = maker.submit(next, chunks, None)
        while chunk := coming.result():
            coming = maker.submit(next, chunks, None)
            _send_with_retries(chunk)


def _send_with_retries(operations: list[Operation]) -> None:
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
    """Sends one request and returns the operations to retry."""
    lines = [line for operation in operations for line in (operation.action, operation.source)]
    try:
        response = indexing_client().bulk(
            operations=lines,  # type: ignore[arg-type]  # The client accepts lines of JSON too.
            timeout=SHARD_TIMEOUT,
            filter_path=RESPONSE_FIELDS,
        )
    except ApiError as error:
        if _is_temporary(error.status_code):
            return operations
        raise
    if not response["errors"]:
        return []
    items = [item["index"] for item in response["items"]]
    return [operation for operation, item in zip(operations, items, strict=True) if not _is_settled(operation, item)]


def _is_settled(operation: Operation, item: dict[str, Any]) -> bool:
    status = item["status"]
    # 409: the index has a newer version, which counts as success.
    if status < 300 or status == 409:
        return True
    kind = item["error"]["type"]
    if status == 400:
        logger.error("the index rejects message %s for good: %s", operation.id, kind)
        return True
    if status == 404:
        raise AliasMoved
    if _is_temporary(status):
        return False
    raise SearchUnavailable(f"the cluster accepts no documents: {status} {kind}")


def _is_temporary(status: int) -> bool:
    return status == 429 or status >= 500
