"""Search on SQLite's FTS5, in a file of its own. Documented in docs/search.md."""

from __future__ import annotations

import fcntl
import os
import sqlite3
import threading
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from django.conf import settings

from chatsystem.writelog.arrival import to_datetime, to_micros
from search import text
from search.backends.base import Hit, Hits, IndexState, Place, Scope, SearchBackend, SearchUnavailable
from search.documents import Document

#: Moves with the schema, and with what search.text takes for a word: an index of another one is not searched.
SCHEMA_VERSION = 1

# `words` finds, `documents` tells. `moments` lets a sort by time read some 20 bytes a hit instead of the message.
#
# The tokenizer only parts at what search.text never puts into a term. The slash makes scopes terms that no word of a
# query can begin. The prefix indexes answer a query's short words, which would visit half of the vocabulary.
SCHEMA = f"""
    CREATE VIRTUAL TABLE words USING fts5 (
        scope, terms, tokenize = "ascii tokenchars '/'", prefix = '1 2 3'
    );
    CREATE TABLE documents (
        id INTEGER PRIMARY KEY,
        version INTEGER NOT NULL,
        application_token TEXT NOT NULL,
        chat_number INTEGER NOT NULL,
        number INTEGER NOT NULL,
        body TEXT NOT NULL,
        created_at INTEGER NOT NULL
    );
    CREATE INDEX moments ON documents (id, created_at);
    PRAGMA user_version = {SCHEMA_VERSION};
"""

#: The mark that a file bears, as its application_id, from its first rebuild on.
COMPLETE = int.from_bytes(b"chat", "big")

#: Stands between CJK runs that are not adjacent. Not a letter, so no query asks for it.
GAP = "·"

#: Seconds that a writer waits for another one.
BUSY_TIMEOUT = 5.0

#: Of one connection. Small: there is one for each thread, and the system caches the file for all of them.
CACHE_KILOBYTES = 8_000

#: Only terms count for the score, not the scope that all hits have in common.
SCORE = "bm25(words, 0.0, 1.0)"
MATCHES = f"""
    SELECT words.rowid AS id, {SCORE} AS score, created_at
    FROM words JOIN documents INDEXED BY moments ON documents.id = words.rowid
    WHERE words MATCH :match
"""
# bm25 is lower for better hits.
BEST_FIRST = "score, -created_at, -id"
WORST_FIRST = "score DESC, created_at, id"


class Fts5Backend(SearchBackend):
    """One SQLite file, made on first use; one connection for each thread of each process."""

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._local = threading.local()

    @property
    def path(self) -> Path:
        return self._path or Path(settings.SEARCH_INDEX_PATH)

    def index(self, documents: Sequence[Document]) -> None:
        newest: dict[int, Document] = {}
        for document in sorted(documents, key=lambda document: (document.id, document.version)):
            newest[document.id] = document
        # Made before the transaction begins: others can write meanwhile.
        rows = {document.id: (document.id, _scope_terms(document), _terms(document)) for document in newest.values()}
        with self._write() as connection:
            held = self._versions(connection, newest)
            fresh = [document for document in newest.values() if held.get(document.id, -1) <= document.version]
            self._delete(connection, [document.id for document in fresh if document.id in held])
            connection.executemany(
                "INSERT INTO words (rowid, scope, terms) VALUES (?, ?, ?)", [rows[document.id] for document in fresh]
            )
            connection.executemany(
                "INSERT INTO documents VALUES (?, ?, ?, ?, ?, ?, ?)",
                [
                    (
                        document.id,
                        document.version,
                        document.application_token,
                        document.chat_number,
                        document.number,
                        document.body,
                        to_micros(document.created_at),
                    )
                    for document in fresh
                ],
            )

    def remove(self, versions: Mapping[int, int]) -> None:
        with self._write() as connection:
            held = self._versions(connection, versions)
            self._delete(connection, [id for id, version in held.items() if versions[id] == version])

    def search(
        self, query: text.Query, scope: Scope, limit: int, *, after: Place | None = None, before: Place | None = None
    ) -> Hits:
        """A place is the hit's id and the number of hits before it.

        Not its score: scores move with every document that is indexed, and tell how common words are among other
        tenants. The score of the hit at the place is taken afresh; the number serves when it is no hit any more.
        """
        if not query:
            return Hits(0, [], False)
        match = _match(query, scope)
        with self._read() as connection:
            ((count,),) = connection.execute("SELECT count(*) FROM words WHERE words MATCH ?", (match,))
            if before is not None:
                first, ids, more = self._page_before(connection, match, limit, before)
            else:
                first, ids, more = self._page_after(connection, match, limit, after)
            found = {document.id: document for document in self._documents(connection, ids)}
        return Hits(count, [Hit(found[id], (id, first + position)) for position, id in enumerate(ids)], more)

    def count(self, through: int) -> int:
        with self._read() as connection:
            ((count,),) = connection.execute("SELECT count(*) FROM documents WHERE id <= ?", (through,))
        return int(count)

    def last_id(self) -> int:
        with self._read() as connection:
            ((last,),) = connection.execute("SELECT max(id) FROM documents")
        return last or 0

    def documents(self, low: int, high: int) -> dict[int, Document]:
        with self._read() as connection:
            rows = connection.execute("SELECT * FROM documents WHERE id > ? AND id <= ?", (low, high))
            return {document.id: document for document in map(_document, rows)}

    def state(self) -> IndexState:
        return IndexState(self.path.name, self.count(self.last_id()), self.is_complete())

    def ping(self) -> None:
        with self._read() as connection:
            connection.execute("SELECT rowid FROM words WHERE words MATCH 'terms:a' LIMIT 1").fetchall()

    def is_complete(self) -> bool:
        with self._read() as connection:
            ((mark,),) = connection.execute("PRAGMA application_id")
        return bool(mark == COMPLETE)

    @contextmanager
    def rebuild(self) -> Iterator[SearchBackend]:
        """In place, because nothing but this file is to be filled. One that cannot be used is thrown away first."""
        try:
            self.ping()
        except SearchUnavailable as error:
            # Exactly this class means a broken file. Its subclasses tell of a lock, a full disk, a missing module.
            if type(error.__cause__) is sqlite3.DatabaseError:
                self._discard()
        yield self
        with self._write() as connection:
            connection.execute(f"PRAGMA application_id = {COMPLETE}")

    # Pages ------------------------------------------------------------------------------------------------------------

    def _page_after(
        self, connection: sqlite3.Connection, match: str, limit: int, place: Place | None
    ) -> tuple[int, list[int], bool]:
        """The number of hits before the page, the page's ids, and whether hits lie beyond it."""
        if place is None:
            anchor, first = None, 0
        else:
            anchor, first = self._anchor(connection, match, place[0]), place[1] + 1
        ids = self._ids(connection, match, ">", anchor, BEST_FIRST, limit + 1, 0 if anchor else first)
        return first, ids[:limit], len(ids) > limit

    def _page_before(
        self, connection: sqlite3.Connection, match: str, limit: int, place: Place
    ) -> tuple[int, list[int], bool]:
        anchor = self._anchor(connection, match, place[0])
        if anchor:
            ids = self._ids(connection, match, "<", anchor, WORST_FIRST, limit + 1, 0)
            page, more = ids[:limit][::-1], len(ids) > limit
            return max(place[1] - len(page), 0), page, more
        first = max(place[1] - limit, 0)
        return first, self._ids(connection, match, ">", None, BEST_FIRST, place[1] - first, first), first > 0

    def _anchor(self, connection: sqlite3.Connection, match: str, id: int) -> Mapping[str, float] | None:
        row = connection.execute(f"{MATCHES} AND words.rowid = :id", {"match": match, "id": id}).fetchone()
        return row and {"id": row[0], "score": row[1], "created_at": row[2]}

    def _ids(
        self,
        connection: sqlite3.Connection,
        match: str,
        side: str,
        anchor: Mapping[str, float] | None,
        order: str,
        limit: int,
        offset: int,
    ) -> list[int]:
        beyond = f"WHERE (score, -created_at, -id) {side} (:score, -:created_at, -:id)" if anchor else ""
        statement = f"SELECT id FROM ({MATCHES}) {beyond} ORDER BY {order} LIMIT :limit OFFSET :offset"
        values = {**(anchor or {}), "match": match, "limit": limit, "offset": offset}
        return [id for (id,) in connection.execute(statement, values)]

    # Rows -------------------------------------------------------------------------------------------------------------

    def _documents(self, connection: sqlite3.Connection, ids: Sequence[int]) -> Iterator[Document]:
        marks = ",".join("?" * len(ids))
        return map(_document, connection.execute(f"SELECT * FROM documents WHERE id IN ({marks})", ids))

    def _versions(self, connection: sqlite3.Connection, ids: Mapping[int, object]) -> dict[int, int]:
        found = {}
        for id in ids:
            row = connection.execute("SELECT version FROM documents WHERE id = ?", (id,)).fetchone()
            if row:
                found[id] = row[0]
        return found

    def _delete(self, connection: sqlite3.Connection, ids: Sequence[int]) -> None:
        connection.executemany("DELETE FROM words WHERE rowid = ?", [(id,) for id in ids])
        connection.executemany("DELETE FROM documents WHERE id = ?", [(id,) for id in ids])

    # The file ---------------------------------------------------------------------------------------------------------

    @contextmanager
    def _read(self) -> Iterator[sqlite3.Connection]:
        """A connection that sees one state of the index throughout."""
        with self._transaction("BEGIN") as connection:
            yield connection

    @contextmanager
    def _write(self) -> Iterator[sqlite3.Connection]:
        """A connection that holds the index's write lock. The database's is another one: the drain never waits."""
        with self._transaction("BEGIN IMMEDIATE") as connection:
            yield connection

    @contextmanager
    def _transaction(self, begin: str) -> Iterator[sqlite3.Connection]:
        try:
            connection = self._connection()
            connection.execute(begin)
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
        except (sqlite3.DatabaseError, OSError) as error:
            self._forget()
            raise SearchUnavailable(f"{self.path}: {error}") from error

    @property
    def _key(self) -> str:
        # A connection must not cross a fork, and not be closed by the child either: there it is kept and not used.
        return f"{os.getpid()} {self.path}"

    def _connection(self) -> sqlite3.Connection:
        """This thread's connection; a new one when the file was replaced, or is there no more."""
        opened = self._local.__dict__.get(self._key)
        if not opened or opened.identity != _identity(self.path):
            self._forget()
            self.path.parent.mkdir(parents=True, exist_ok=True)
            # Not for others to read, whatever the umask: it holds all there is in the database.
            self.path.touch(mode=0o600)
            opened = self._local.__dict__[self._key] = _Opened(self.path)
            self._create(opened.connection)
        return opened.connection

    def _forget(self) -> None:
        self._local.__dict__.pop(self._key, None)

    def _create(self, connection: sqlite3.Connection) -> None:
        if _schema_version(connection) == 0:
            # One process at a time: SQLite does not wait for its own locks while it changes to WAL.
            with _locked(self.path.parent):
                if _schema_version(connection) == 0:
                    connection.execute("PRAGMA journal_mode = WAL")
                    connection.executescript(f"BEGIN IMMEDIATE; {SCHEMA} COMMIT;")
        if _schema_version(connection) != SCHEMA_VERSION:
            raise sqlite3.DatabaseError("made by another version of this program; run manage.py reindex")

    def _discard(self) -> None:
        for suffix in ("", "-wal", "-shm"):
            self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)


class _Opened:
    """A connection, and which file it is of. Closed with its thread: by itself it would wait for the collector."""

    def __init__(self, path: Path) -> None:
        self.connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT, isolation_level=None, check_same_thread=False)
        self.identity = _identity(path)
        weakref.finalize(self, _close, self.connection, os.getpid())
        # FULL: an outbox entry is deleted once its documents are here, so a power cut must not take them back.
        self.connection.execute("PRAGMA synchronous = FULL")
        self.connection.execute(f"PRAGMA cache_size = -{CACHE_KILOBYTES}")


def _close(connection: sqlite3.Connection, process: int) -> None:
    if process == os.getpid():
        connection.close()


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Holds a lock on the folder among processes; it ends with the process."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino


def _schema_version(connection: sqlite3.Connection) -> int:
    ((version,),) = connection.execute("PRAGMA user_version")
    return int(version)


def _document(row: tuple[int, int, str, int, int, str, int]) -> Document:
    id, version, application_token, chat_number, number, body, created_at = row
    return Document(id, version, application_token, chat_number, number, body, to_datetime(created_at))


def _terms(document: Document) -> str:
    return " ".join(term or GAP for term in text.terms(document.body))


def _scope_terms(document: Document) -> str:
    application = _scope_term(Scope(document.application_token))
    return f"{application} {_scope_term(Scope(document.application_token, document.chat_number))}"


def _scope_term(scope: Scope) -> str:
    chat = "" if scope.chat_number is None else f"/{scope.chat_number}"
    return f"/{scope.application_token}{chat}"


def _match(query: text.Query, scope: Scope) -> str:
    """The query in FTS5's language. All that stands in quotes is terms, which hold nothing but letters and digits."""
    # The scope comes from the index like any word: no other tenant's rows are visited and thrown away.
    conditions = [] if scope.application_token is None else [f'scope : "{_scope_term(scope)}"']
    conditions += [f'terms : "{prefix}" *' for prefix in query.prefixes]
    conditions += [f'terms : "{" ".join(phrase)}"' for phrase in query.phrases]
    return " AND ".join(conditions)
