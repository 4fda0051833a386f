"""Turns DATABASE_URL into an entry of Django's DATABASES. Documented in docs/databases.md."""

from __future__ import annotations

from typing import Any

import dj_database_url

from chatsystem.conf.startup import StartupError

SQLITE = "django.db.backends.sqlite3"
MYSQL = "django.db.backends.mysql"
#: Schemes that a DATABASE_URL may have.
SCHEMES = ("mysql", "sqlite")

SQLITE_OPTIONS = {
    # Every transaction takes the write lock when it begins. This replaces the partition's row lock, and no transaction
    # fails half-way because it has to upgrade a read lock.
    "transaction_mode": "IMMEDIATE",
    "timeout": 30,
    # FULL: a commit is on disk before the write log drops its events.
    "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;",
}

#: Seconds that a statement waits for a locked row. A batch of a drain takes a small fraction of that.
LOCK_WAIT = 3
#: Seconds after which the server ends an idle connection and its open transaction. A drain that was stopped half-way,
#: or whose host is gone, holds its partition no longer than that.
IDLE = 10

MYSQL_OPTIONS = {
    # Under READ COMMITTED, each statement sees the commits before it. Under REPEATABLE READ, MySQL's default, a drain
    # that waited for the partition's lock would read the state from before the wait.
    "isolation_level": "read committed",
    # One statement. TRADITIONAL refuses values that other modes truncate or convert. MariaDB and MySQL both know
    # wait_timeout; only MariaDB knows idle_transaction_timeout.
    "init_command": f"SET SESSION sql_mode='TRADITIONAL', innodb_lock_wait_timeout={LOCK_WAIT}, wait_timeout={IDLE}",
    "connect_timeout": 5,
    # Seconds without a byte from or to the server. Longer than a statement may wait for a lock, and short enough to
    # give up a stale connection in time.
    "read_timeout": 2 * LOCK_WAIT,
    "write_timeout": 2 * LOCK_WAIT,
}

#: Seconds for which a web thread reuses its connection (CONN_MAX_AGE): connecting takes as long as a read. The short
#: time keeps requests after an outage from waiting for a stale connection.
REUSE = 1


def parse(url: str) -> dict[str, Any]:
    """Returns an entry for DATABASES. Options in the URL's query win: `?unix_socket=/run/mysqld/mysqld.sock`.

    Raises StartupError for any other database, and when the driver is not installed.
    """
    scheme, separator, rest = url.partition("://")
    # The write log's locks are made for these two. The sentence does not quote the URL, which may hold a password.
    if scheme.lower() not in SCHEMES or not separator:
        raise _wrong(f"names {scheme!r}" if separator and scheme.isalnum() else "is not a URL")
    try:
        config: dict[str, Any] = dict(dj_database_url.parse(f"{scheme.lower()}://{rest}", conn_max_age=REUSE))
    except ValueError:
        raise _wrong("is not a URL") from None
    if config["ENGINE"] == SQLITE and config["NAME"] == ":memory:":
        raise _wrong("names no file, so each process would have its own database")
    if config["ENGINE"] == MYSQL and not config["NAME"]:
        raise _wrong("names no database")
    if config["ENGINE"] == SQLITE:
        config["OPTIONS"] = SQLITE_OPTIONS | config.get("OPTIONS", {})
    if config["ENGINE"] == MYSQL:
        _expect_driver()
        config["OPTIONS"] = MYSQL_OPTIONS | config.get("OPTIONS", {})
    return config


def _wrong(what: str) -> StartupError:
    return StartupError(
        f"DATABASE_URL {what}; set DATABASE_URL=mysql://user:password@host:3306/name (MySQL or MariaDB), or "
        "sqlite:////path/to/file, or leave it unset for SQLite in DATA_DIR; "
        "percent-encode special characters of a password (%2F for /, %23 for #)."
    )


def _expect_driver() -> None:
    try:
        import MySQLdb  # noqa: F401
    except ImportError as error:
        raise StartupError(
            f"DATABASE_URL names a MySQL database, but the driver cannot be loaded ({error}): "
            "install it with `.venv/bin/pip install --require-hashes -r requirements/all.lock` "
            "(it compiles; on Debian and Ubuntu it needs `apt install gcc pkg-config python3-dev libmariadb-dev`)."
        ) from None
