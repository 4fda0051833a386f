"""Search on SQLite's FTS5, in a file of its own. Documented in docs/search.md."""

from __future__ import annotations

import fcntl
import os
import sqlite3
import threading
import weakref
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from django.conf import settings

from chatsystem.writelog.arrival import to_datetime, to_micros
from search import text
from search.backends.base import Hit, Hits, IndexState, Place, Scope, SearchBackend, SearchUnavailable
from search.documents import Document

#: Moves with the schema, and with what search.text takes for a word: an index of another one is not searched.
SCHEMA_VERSION = 2

#: Of a word, the beginnings that `words` has a list of messages for. What begins with a longer one is collected from
#: the lists of all such words, each time it is looked for.
PREFIX_LENGTHS = range(1, 21)

#: The highest numbers of words that messages of one length have; those of the last length have more. The shorter a
#: message is, the better a hit, because the query's words are more of it. Those of one length are equals.
LENGTHS = (1, 2, 3, 4, 5, 6, 8, 10, 13, 17, 23, 32, 50, 100, 300)

#: Bits of a place, the rowid of `words`: a length, then an application, then a message's id. So the hits of a length,
#: in an application or in all, stand together in each of FTS5's lists, and no others are read to find them.
APPLICATION_BITS, ID_BITS = 23, 36
IDS = (1 << ID_BITS) - 1

#: Of a transaction's terms that FTS5 keeps in memory: those of a batch, so that it is written as one segment.
HASH_BYTES = 4_000_000
#: Segments of a kind that FTS5 makes one of. More than its 4: each term is written less often, and a search does not
#: notice how many it looks into.
MERGED_AT_ONCE = 8

# `words` finds, `documents` tells. `moments` lets a sort by time read some 20 bytes a hit instead of the message.
#
# `words` keeps no text: when a document goes, what it was indexed with is made of its body once more. The tokenizer
# only parts at what search.text never puts into a term. The slash makes a chat a term that no word of a query begins.
SCHEMA = f"""
    CREATE VIRTUAL TABLE words USING fts5 (
        terms, content = '', columnsize = 0, tokenize = "ascii tokenchars '/'",
        prefix = '{" ".join(map(str, PREFIX_LENGTHS))}'
    );
    INSERT INTO words (words, rank) VALUES ('hashsize', {HASH_BYTES}), ('automerge', {MERGED_AT_ONCE});
    CREATE TABLE applications (
        id INTEGER PRIMARY KEY CHECK (id < {1 << APPLICATION_BITS}),
        token TEXT NOT NULL UNIQUE
    );
    CREATE TABLE documents (
        id INTEGER PRIMARY KEY CHECK (id < {1 << ID_BITS}),
        version INTEGER NOT NULL,
        application INTEGER NOT NULL,
        chat_number INTEGER NOT NULL,
        number INTEGER NOT NULL,
        created_at INTEGER NOT NULL,
        body TEXT NOT NULL
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

HITS = f"""
    SELECT documents.id
    FROM words CROSS JOIN documents INDEXED BY moments ON documents.id = words.rowid & {IDS}
    WHERE words MATCH :match AND words.rowid BETWEEN :low AND :high
"""
# Of one length.
BEST_FIRST = "created_at DESC, documents.id DESC"
WORST_FIRST = "created_at, documents.id"

DOCUMENTS = """
    SELECT documents.id, version, token, chat_number, number, body, created_at
    FROM documents JOIN applications ON applications.id = application
"""


class Outdated(sqlite3.DatabaseError):
    """The file is of an earlier SCHEMA_VERSION: a rebuild makes it anew."""


class Stretch(NamedTuple):
    """The places of a scope's messages of one length, and how many of them are hits."""

    low: int
    high: int
    hits: int


class Anchor(NamedTuple):
    """A hit that a page begins after or ends before: the position of its stretch, and its place among equals."""

    stretch: int
    created_at: int
    id: int


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
        entries = {document.id: _entry(document.chat_number, document.body) for document in newest.values()}
        with self._write() as connection:
            held = self._versions(connection, newest)
            fresh = [document for document in newest.values() if held.get(document.id, -1) <= document.version]
            self._delete(connection, [document.id for document in fresh if document.id in held])
            applications = self._number(connection, {document.application_token for document in fresh})
            rows = []
            for document in fresh:
                length, terms = entries[document.id]
                rows.append((_place(length, applications[document.application_token], document.id), terms))
            # In order, as FTS5 writes what it has collected to disk before it takes a lower rowid.
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
        with self._write() as connection:
            held = self._versions(connection, versions)
            self._delete(connection, [id for id, version in held.items() if versions[id] == version])

    def search(
        self, query: text.Query, scope: Scope, limit: int, *, after: Place | None = None, before: Place | None = None
    ) -> Hits:
        """A place is the hit's id and the number of hits before it, which serves when it is no hit any more."""
        if not query:
            return Hits(0, [], False)
        match = _match(query, scope)
        with self._read() as connection:
            stretches = self._stretches(connection, match, scope)
            if before is not None:
                first, ids, more = self._page_before(connection, match, stretches, limit, before)
            else:
                first, ids, more = self._page_after(connection, match, stretches, limit, after)
            found = {document.id: document for document in self._documents(connection, ids)}
        hits = [Hit(found[id], (id, first + position)) for position, id in enumerate(ids)]
        return Hits(sum(stretch.hits for stretch in stretches), hits, more)

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
            rows = connection.execute(f"{DOCUMENTS} WHERE documents.id > ? AND documents.id <= ?", (low, high))
            return {document.id: document for document in map(_document, rows)}

    def state(self) -> IndexState:
        return IndexState(self.path.name, self.count(self.last_id()), self.is_complete())

    def ping(self) -> None:
        with self._read() as connection:
            connection.execute("SELECT rowid FROM words WHERE words MATCH 'a' LIMIT 1").fetchall()

    def is_complete(self) -> bool:
        try:
            with self._read() as connection:
                ((mark,),) = connection.execute("PRAGMA application_id")
        except SearchUnavailable as error:
            if isinstance(error.__cause__, Outdated):
                return False
            raise
        return bool(mark == COMPLETE)

    @contextmanager
    def rebuild(self) -> Iterator[SearchBackend]:
        """In place, because nothing but this file is to be filled. One that cannot be used is thrown away first."""
        try:
            self.ping()
        except SearchUnavailable as error:
            # Exactly this class means a broken file. SQLite's subclasses tell of a lock, a full disk, a missing module.
            if type(error.__cause__) in (sqlite3.DatabaseError, Outdated):
                self._discard()
        yield self
        with self._write() as connection:
            connection.execute(f"PRAGMA application_id = {COMPLETE}")

    # Pages ------------------------------------------------------------------------------------------------------------

    def _stretches(self, connection: sqlite3.Connection, match: str, scope: Scope) -> list[Stretch]:
        """Best first."""
        lowest, highest = 0, (1 << APPLICATION_BITS) - 1
        if scope.application_token is not None:
            known = connection.execute("SELECT id FROM applications WHERE token = ?", (scope.application_token,))
            # SQLite gives no 0.
            lowest = highest = next(known, (0,))[0]
        stretches = []
        for length in range(len(LENGTHS) + 1):
            places = _place(length, lowest, 0), _place(length, highest, IDS)
            counted = connection.execute(
                "SELECT count(*) FROM words WHERE words MATCH ? AND rowid BETWEEN ? AND ?", (match, *places)
            )
            stretches.append(Stretch(*places, *counted.fetchone()))
        return stretches

    def _page_after(
        self, connection: sqlite3.Connection, match: str, stretches: list[Stretch], limit: int, place: Place | None
    ) -> tuple[int, list[int], bool]:
        """The number of hits before the page, the page's ids, and whether hits lie beyond it."""
        if place is None:
            anchor, first = None, 0
        else:
            anchor, first = self._anchor(connection, match, stretches, place[0]), place[1] + 1
        if anchor:
            ids = self._ids(connection, match, stretches[anchor.stretch :], BEST_FIRST, limit + 1, anchor=anchor)
        else:
            ids = self._ids(connection, match, stretches, BEST_FIRST, limit + 1, offset=first)
        return first, ids[:limit], len(ids) > limit

    def _page_before(
        self, connection: sqlite3.Connection, match: str, stretches: list[Stretch], limit: int, place: Place
    ) -> tuple[int, list[int], bool]:
        anchor = self._anchor(connection, match, stretches, place[0])
        if anchor:
            ids = self._ids(connection, match, stretches[anchor.stretch :: -1], WORST_FIRST, limit + 1, anchor=anchor)
            page, more = ids[:limit][::-1], len(ids) > limit
            return max(place[1] - len(page), 0), page, more
        first = max(place[1] - limit, 0)
        return first, self._ids(connection, match, stretches, BEST_FIRST, place[1] - first, offset=first), first > 0

    def _anchor(
        self, connection: sqlite3.Connection, match: str, stretches: Sequence[Stretch], id: int
    ) -> Anchor | None:
        """None for what is no hit any more."""
        statement = "SELECT application, chat_number, body, created_at FROM documents WHERE id = ?"
        for application, chat_number, body, created_at in connection.execute(statement, (id,)):
            length, _ = _entry(chat_number, body)
            place = _place(length, application, id)
            hit = connection.execute("SELECT rowid FROM words WHERE words MATCH ? AND rowid = ?", (match, place))
            if stretches[length].low <= place <= stretches[length].high and hit.fetchone():
                return Anchor(length, created_at, id)
        return None

    def _ids(
        self,
        connection: sqlite3.Connection,
        match: str,
        stretches: Sequence[Stretch],
        order: str,
        limit: int,
        *,
        anchor: Anchor | None = None,
        offset: int = 0,
    ) -> list[int]:
        """Hits of one stretch after the other. An anchor is in the first of them, and its page lies beyond it."""
        side = "<" if order == BEST_FIRST else ">"
        ids: list[int] = []
        for stretch in stretches:
            if offset >= stretch.hits:
                offset -= stretch.hits
                continue
            beyond = f"AND (created_at, documents.id) {side} (:created_at, :id)" if anchor else ""
            values = {
                **(anchor._asdict() if anchor else {}),
                "match": match,
                "low": stretch.low,
                "high": stretch.high,
                "limit": limit - len(ids),
                "offset": offset,
            }
            statement = f"{HITS} {beyond} ORDER BY {order} LIMIT :limit OFFSET :offset"
            ids += [id for (id,) in connection.execute(statement, values)]
            if len(ids) == limit:
                break
            anchor, offset = None, 0
        return ids

    # Rows -------------------------------------------------------------------------------------------------------------

    def _documents(self, connection: sqlite3.Connection, ids: Sequence[int]) -> Iterator[Document]:
        marks = ",".join("?" * len(ids))
        return map(_document, connection.execute(f"{DOCUMENTS} WHERE documents.id IN ({marks})", ids))

    def _versions(self, connection: sqlite3.Connection, ids: Mapping[int, object]) -> dict[int, int]:
        found = {}
        for id in ids:
            row = connection.execute("SELECT version FROM documents WHERE id = ?", (id,)).fetchone()
            if row:
                found[id] = row[0]
        return found

    def _delete(self, connection: sqlite3.Connection, ids: Sequence[int]) -> None:
        rows = []
        for id in ids:
            statement = "SELECT application, chat_number, body FROM documents WHERE id = ?"
            for application, chat_number, body in connection.execute(statement, (id,)):
                length, terms = _entry(chat_number, body)
                rows.append((_place(length, application, id), terms))
        connection.executemany("INSERT INTO words (words, rowid, terms) VALUES ('delete', ?, ?)", sorted(rows))
        connection.executemany("DELETE FROM documents WHERE id = ?", [(id,) for id in ids])

    def _number(self, connection: sqlite3.Connection, tokens: Set[str]) -> dict[str, int]:
        """The applications' numbers, which are given when they have their first message, and kept."""
        connection.executemany("INSERT OR IGNORE INTO applications (token) VALUES (?)", [(token,) for token in tokens])
        numbers = {}
        for token in tokens:
            ((numbers[token],),) = connection.execute("SELECT id FROM applications WHERE token = ?", (token,))
        return numbers

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
        version = _schema_version(connection)
        if version < SCHEMA_VERSION:
            raise Outdated(
                "made by an earlier version of this program; the next message, or manage.py reindex, replaces it"
            )
        if version > SCHEMA_VERSION:
            # Not by itself: while an update is rolled out, earlier and later indexers would replace each other's.
            raise sqlite3.DatabaseError("made by a later version of this program; run manage.py reindex")

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


def _entry(chat_number: int, body: str) -> tuple[int, str]:
    """What a message is indexed with: its length, as a position in LENGTHS, and its terms."""
    terms = text.terms(body)
    return bisect_left(LENGTHS, len(terms)), " ".join([_chat(chat_number), *(term or GAP for term in terms)])


def _place(length: int, application: int, id: int) -> int:
    return (length << APPLICATION_BITS | application) << ID_BITS | id


def _chat(number: int) -> str:
    return f"/{number}"


def _match(query: text.Query, scope: Scope) -> str:
    """The query in FTS5's language. All that stands in quotes is terms, which hold nothing but letters and digits."""
    conditions = [] if scope.chat_number is None else [f'"{_chat(scope.chat_number)}"']
    conditions += [f'"{prefix}" *' for prefix in query.prefixes]
    conditions += [f'"{" ".join(phrase)}"' for phrase in query.phrases]
    return " AND ".join(conditions)
