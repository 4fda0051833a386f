"""Opens the index file, creates its tables, and runs transactions. Documented in docs/search.md."""

from __future__ import annotations

import fcntl
import os
import sqlite3
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from django.conf import settings

from search.backends.base import SearchUnavailable
from search.backends.fts5.schema import SCHEMA, SCHEMA_VERSION

#: Seconds that a writer waits for another writer.
BUSY_TIMEOUT = 5.0

#: The page cache of one connection. Small: each thread has a connection, and the operating system caches the file.
CACHE_KILOBYTES = 8_000


class Outdated(sqlite3.DatabaseError):
    """The file has an earlier SCHEMA_VERSION. A rebuild replaces it."""


class IndexFile:
    """The index: one SQLite file, created on first use, with one connection for each thread of each process."""

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._local = threading.local()

    @property
    def path(self) -> Path:
        return self._path or Path(settings.SEARCH_INDEX_PATH)

    @contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """Opens a transaction that sees one snapshot of the index."""
        with self._transaction("BEGIN") as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """Opens a transaction with the index's write lock, which is not the database's: no drain waits for it."""
        with self._transaction("BEGIN IMMEDIATE") as connection:
            yield connection

    def discard(self) -> None:
        """Deletes the file."""
        for suffix in ("", "-wal", "-shm"):
            self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)

    @contextmanager
    def _transaction(self, begin: str) -> Iterator[sqlite3.Connection]:
        try:
            connection = self.connection()
            connection.execute(begin)
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
        except (sqlite3.DatabaseError, OSError) as error:
            self.forget()
            raise SearchUnavailable(f"{self.path}: {error}") from error

    @property
    def _key(self) -> str:
        # A connection must not cross a fork, and the child must not close it either: the child keeps it unused.
        return f"{os.getpid()} {self.path}"

    def connection(self) -> sqlite3.Connection:
        """Returns this thread's connection. Opens another one when the file has been replaced or deleted."""
        opened = self._local.__dict__.get(self._key)
        if not opened or opened.inode != _inode(self.path):
            self.forget()
            self.path.parent.mkdir(parents=True, exist_ok=True)
            # Private to this user, whatever the umask: the index contains every message.
            self.path.touch(mode=0o600)
            opened = self._local.__dict__[self._key] = _Opened(self.path)
            _prepare(opened.connection, self.path.parent)
        return opened.connection

    def forget(self) -> None:
        """Drops this thread's connection."""
        self._local.__dict__.pop(self._key, None)


class _Opened:
    """A connection and the inode of its file. Closed when its thread ends, not when the garbage collector runs."""

    def __init__(self, path: Path) -> None:
        self.connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT, isolation_level=None, check_same_thread=False)
        self.inode = _inode(path)
        weakref.finalize(self, _close, self.connection, os.getpid())
        # FULL: an outbox entry is deleted once its documents are here, so a power cut must not undo their commit.
        self.connection.execute("PRAGMA synchronous = FULL")
        self.connection.execute(f"PRAGMA cache_size = -{CACHE_KILOBYTES}")


def _close(connection: sqlite3.Connection, process: int) -> None:
    if process == os.getpid():
        connection.close()


def _inode(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino


def _prepare(connection: sqlite3.Connection, folder: Path) -> None:
    """Creates the tables of a new file. Raises sqlite3.DatabaseError for a file of another version."""
    if _schema_version(connection) == 0:
        # One process at a time: SQLite does not wait for its own locks while it changes to WAL.
        with _locked(folder):
            if _schema_version(connection) == 0:
                connection.execute("PRAGMA journal_mode = WAL")
                connection.executescript(f"BEGIN IMMEDIATE; {SCHEMA} COMMIT;")
    version = _schema_version(connection)
    if version < SCHEMA_VERSION:
        raise Outdated(
            "made by an earlier version of this program; the next message, or manage.py reindex, replaces it"
        )
    if version > SCHEMA_VERSION:
        # Not replaced automatically: in a rolling update, indexers of both versions would replace each other's file.
        raise sqlite3.DatabaseError("made by a later version of this program; run manage.py reindex")


def _schema_version(connection: sqlite3.Connection) -> int:
    ((version,),) = connection.execute("PRAGMA user_version")
    return int(version)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Locks the folder against other processes. The lock ends with the process."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
