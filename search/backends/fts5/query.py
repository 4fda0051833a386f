"""Finds the hits of a query, one page at a time. Documented in docs/search.md."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import NamedTuple

from search.backends.base import Position, Scope
from search.backends.fts5.schema import LENGTHS, MAX_APPLICATION, MAX_ID, chat_term, entry, rowid
from search.tokenizer import Query

HITS = f"""
    SELECT documents.id
    FROM words CROSS JOIN documents INDEXED BY moments ON documents.id = words.rowid & {MAX_ID}
    WHERE words MATCH :match AND words.rowid BETWEEN :low AND :high
"""
# Within one length bucket.
BEST_FIRST = "created_at DESC, documents.id DESC"
WORST_FIRST = "created_at, documents.id"


class Bucket(NamedTuple):
    """The range of rowids of one length bucket within the scope, and the number of hits in it."""

    low: int
    high: int
    hits: int


class Anchor(NamedTuple):
    """The hit that a page follows or precedes: its bucket's index and its sort key within the bucket."""

    bucket: int
    created_at: int
    id: int


class Page(NamedTuple):
    """The number of hits before the page, its ids best first, and whether there are more in the page's direction."""

    first: int
    ids: list[int]
    more: bool


class Result:
    """The hits of one query, best first."""

    def __init__(self, connection: sqlite3.Connection, query: Query, scope: Scope) -> None:
        self._connection = connection
        self._match = _match(query, scope)
        self._buckets = self._count_buckets(scope)

    @property
    def count(self) -> int:
        return sum(bucket.hits for bucket in self._buckets)

    def page_after(self, limit: int, position: Position | None) -> Page:
        if position is None:
            anchor, first = None, 0
        else:
            anchor, first = self._anchor(position[0]), position[1] + 1
        if anchor:
            ids = self._ids(self._buckets[anchor.bucket :], BEST_FIRST, limit + 1, anchor=anchor)
        else:
            ids = self._ids(self._buckets, BEST_FIRST, limit + 1, offset=first)
        return Page(first, ids[:limit], len(ids) > limit)

    def page_before(self, limit: int, position: Position) -> Page:
        anchor = self._anchor(position[0])
        if anchor:
            ids = self._ids(self._buckets[anchor.bucket :: -1], WORST_FIRST, limit + 1, anchor=anchor)
            page = ids[:limit][::-1]
            return Page(max(position[1] - len(page), 0), page, len(ids) > limit)
        first = max(position[1] - limit, 0)
        return Page(first, self._ids(self._buckets, BEST_FIRST, position[1] - first, offset=first), first > 0)

    def _count_buckets(self, scope: Scope) -> list[Bucket]:
        lowest, highest = 0, MAX_APPLICATION
        if scope.application_token is not None:
            known = self._connection.execute("SELECT id FROM applications WHERE token = ?", (scope.application_token,))
            # SQLite never assigns the id 0, so an unknown application has no hits.
            lowest = highest = next(known, (0,))[0]
        buckets = []
        for bucket in range(len(LENGTHS) + 1):
            rowids = rowid(bucket, lowest, 0), rowid(bucket, highest, MAX_ID)
            counted = self._connection.execute(
                "SELECT count(*) FROM words WHERE words MATCH ? AND rowid BETWEEN ? AND ?", (self._match, *rowids)
            )
            buckets.append(Bucket(*rowids, *counted.fetchone()))
        return buckets

    def _anchor(self, id: int) -> Anchor | None:
        """Returns the anchor for a message, or None if it is no longer a hit."""
        statement = "SELECT application, chat_number, body, created_at FROM documents WHERE id = ?"
        for application, chat_number, body, created_at in self._connection.execute(statement, (id,)):
            bucket, _ = entry(chat_number, body)
            row = rowid(bucket, application, id)
            hit = self._connection.execute("SELECT 1 FROM words WHERE words MATCH ? AND rowid = ?", (self._match, row))
            if self._buckets[bucket].low <= row <= self._buckets[bucket].high and hit.fetchone():
                return Anchor(bucket, created_at, id)
        return None

    def _ids(
        self, buckets: Sequence[Bucket], order: str, limit: int, *, anchor: Anchor | None = None, offset: int = 0
    ) -> list[int]:
        """Returns up to `limit` hits, bucket by bucket. An anchor is in the first bucket; the hits lie beyond it."""
        side = "<" if order == BEST_FIRST else ">"
        ids: list[int] = []
        for bucket in buckets:
            if offset >= bucket.hits:
                offset -= bucket.hits
                continue
            beyond = f"AND (created_at, documents.id) {side} (:created_at, :id)" if anchor else ""
            values = {
                **(anchor._asdict() if anchor else {}),
                "match": self._match,
                "low": bucket.low,
                "high": bucket.high,
                "limit": limit - len(ids),
                "offset": offset,
            }
            statement = f"{HITS} {beyond} ORDER BY {order} LIMIT :limit OFFSET :offset"
            ids += [id for (id,) in self._connection.execute(statement, values)]
            if len(ids) == limit:
                break
            anchor, offset = None, 0
        return ids


def _match(query: Query, scope: Scope) -> str:
    """Returns the query in FTS5's syntax. Everything in quotes is a term, which contains only letters and digits."""
    conditions = [] if scope.chat_number is None else [f'"{chat_term(scope.chat_number)}"']
    conditions += [f'"{prefix}" *' for prefix in query.prefixes]
    conditions += [f'"{" ".join(phrase)}"' for phrase in query.phrases]
    return " AND ".join(conditions)
