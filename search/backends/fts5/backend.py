"""The backend on SQLite's FTS5. Documented in docs/search.md."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from pathlib import Path

from chatsystem.writelog.events import to_datetime, to_micros
from search.backends.base import Hit, Hits, IndexState, Position, Scope, SearchBackend, SearchUnavailable
from search.backends.fts5.connection import IndexFile, Outdated
from search.backends.fts5.query import Result
from search.backends.fts5.schema import COMPLETE, entry, rowid
from search.documents import Document
from search.tokenizer import Query

DOCUMENTS = """
    SELECT documents.id, version, token, chat_number, number, body, created_at
    FROM documents JOIN applications ON applications.id = application
"""


class Fts5Backend(SearchBackend):
    def __init__(self, path: Path | None = None) -> None:
        self.file = IndexFile(path)

    def index(self, documents: Sequence[Document]) -> None:
        newest: dict[int, Document] = {}
        for document in sorted(documents, key=lambda document: (document.id, document.version)):
            newest[document.id] = document
        # Computed before the transaction begins, so that others can write meanwhile.
        entries = {document.id: entry(document.chat_number, document.body) for document in newest.values()}
        with self.file.write() as connection:
            held = _versions(connection, newest)
            fresh = [document for document in newest.values() if held.get(document.id, -1) <= document.version]
            _delete(connection, [document.id for document in fresh if document.id in held])
            applications = _application_ids(connection, {document.application_token for document in fresh})
            rows = []
            for document in fresh:
                bucket, terms = entries[document.id]
                rows.append((rowid(bucket, applications[document.application_token], document.id), terms))
            # In order: FTS5 flushes what it has collected to disk before it takes a lower rowid.
            connection.executemany("INSERT INTO words (rowid, terms) VALUES (?, ?)", sorted(rows))
            connection.executemany(
                "INSERT INTO documents VALUES (?, ?, ?, ?, ?, ?, ?)",
                [
                    (
                        document.id,
                        document.version,
                        applications[document.application_token],
                        document.chat_number,
                        document.number,
                        to_micros(document.created_at),
                        document.body,
                    )
                    for document in fresh
                ],
            )

    def remove(self, versions: Mapping[int, int]) -> None:
        with self.file.write() as connection:
            held = _versions(connection, versions)
            _delete(connection, [id for id, version in held.items() if versions[id] == version])

    def search(
        self, query: Query, scope: Scope, limit: int, *, after: Position | None = None, before: Position | None = None
    ) -> Hits:
        """A position is the hit's id and the number of hits before it, which is used once the id is no longer a hit."""
        if not query:
            return Hits(0, [], False)
        with self.file.read() as connection:
            result = Result(connection, query, scope)
            page = result.page_after(limit, after) if before is None else result.page_before(limit, before)
            marks = ",".join("?" * len(page.ids))
            rows = connection.execute(f"{DOCUMENTS} WHERE documents.id IN ({marks})", page.ids)
            found = {document.id: document for document in map(_document, rows)}
        hits = [Hit(found[id], (id, number)) for number, id in enumerate(page.ids, page.first)]
        return Hits(result.count, hits, page.more)

    def count(self, through: int) -> int:
        with self.file.read() as connection:
            ((count,),) = connection.execute("SELECT count(*) FROM documents WHERE id <= ?", (through,))
        return int(count)

    def last_id(self) -> int:
        with self.file.read() as connection:
            ((last,),) = connection.execute("SELECT max(id) FROM documents")
        return last or 0

    def documents(self, low: int, high: int) -> dict[int, Document]:
        with self.file.read() as connection:
            rows = connection.execute(f"{DOCUMENTS} WHERE documents.id > ? AND documents.id <= ?", (low, high))
            return {document.id: document for document in map(_document, rows)}

    def state(self) -> IndexState:
        return IndexState(self.file.path.name, self.count(self.last_id()), self.is_complete())

    def identity(self) -> str:
        """Returns the file's random name, which is generated on the first call and stored in the file."""
        if not self.file.path.exists():
            return ""
        try:
            with self.file.read() as connection:
                named = connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'identity'").fetchone()
            if not named:
                with self.file.write() as connection:
                    connection.execute(
                        "CREATE TABLE IF NOT EXISTS identity AS SELECT lower(hex(randomblob(8))) AS name"
                    )
            with self.file.read() as connection:
                ((name,),) = connection.execute("SELECT name FROM identity")
        except SearchUnavailable:
            return ""
        return str(name)

    def ping(self) -> None:
        with self.file.read() as connection:
            connection.execute("SELECT rowid FROM words WHERE words MATCH 'a' LIMIT 1").fetchall()

    def is_complete(self) -> bool:
        try:
            with self.file.read() as connection:
                ((mark,),) = connection.execute("PRAGMA application_id")
        except SearchUnavailable as error:
            if isinstance(error.__cause__, Outdated):
                return False
            raise
        return bool(mark == COMPLETE)

    @contextmanager
    def rebuild(self) -> Iterator[SearchBackend]:
        """Yields this backend: a rebuild fills the file in place. A broken or outdated file is deleted first."""
        try:
            self.ping()
        except SearchUnavailable as error:
            # DatabaseError itself means a broken file. Its subclasses mean a lock, a full disk or a missing module.
            if type(error.__cause__) in (sqlite3.DatabaseError, Outdated):
                self.file.discard()
        yield self
        with self.file.write() as connection:
            connection.execute(f"PRAGMA application_id = {COMPLETE}")


def _document(row: tuple[int, int, str, int, int, str, int]) -> Document:
    id, version, application_token, chat_number, number, body, created_at = row
    return Document(id, version, application_token, chat_number, number, body, to_datetime(created_at))


def _versions(connection: sqlite3.Connection, ids: Mapping[int, object]) -> dict[int, int]:
    found = {}
    for id in ids:
        row = connection.execute("SELECT version FROM documents WHERE id = ?", (id,)).fetchone()
        if row:
            found[id] = row[0]
    return found


def _delete(connection: sqlite3.Connection, ids: Sequence[int]) -> None:
    rows = []
    for id in ids:
        statement = "SELECT application, chat_number, body FROM documents WHERE id = ?"
        for application, chat_number, body in connection.execute(statement, (id,)):
            bucket, terms = entry(chat_number, body)
            rows.append((rowid(bucket, application, id), terms))
    connection.executemany("INSERT INTO words (words, rowid, terms) VALUES ('delete', ?, ?)", sorted(rows))
    connection.executemany("DELETE FROM documents WHERE id = ?", [(id,) for id in ids])


def _application_ids(connection: sqlite3.Connection, tokens: Set[str]) -> dict[str, int]:
    """Returns the applications' ids in the index. An application gets its id with its first message."""
    connection.executemany("INSERT OR IGNORE INTO applications (token) VALUES (?)", [(token,) for token in tokens])
    ids = {}
    for token in tokens:
        ((ids[token],),) = connection.execute("SELECT id FROM applications WHERE token = ?", (token,))
    return ids
