"""From a DATABASE_URL to what Django connects with. Documented in docs/operations.md."""

from __future__ import annotations

from typing import Any

import dj_database_url
from django.core.exceptions import ImproperlyConfigured

SQLITE = "django.db.backends.sqlite3"
MYSQL = "django.db.backends.mysql"

SQLITE_OPTIONS = {
    # Every transaction takes the write lock as it begins: the stand-in for the partition's row lock, and no
    # transaction ever fails half-way because it has to upgrade a read lock.
    "transaction_mode": "IMMEDIATE",
    "timeout": 30,
    # FULL: a commit is on the disk before the write log forgets the events in it.
    "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;",
}

#: Seconds that a statement waits for a row that another transaction holds: many times what a batch of a drain takes.
LOCK_WAIT = 3
#: Seconds after which the server ends a connection that asks nothing, and with it a transaction that is open. A drain
#: that was stopped in its middle, or whose host is gone, holds its partition no longer than that.
IDLE = 10

MYSQL_OPTIONS = {
    # Each statement sees what was committed before it began. With MySQL's own default, REPEATABLE READ, whoever waited
    # for the partition's lock would go on to read the state from before.
    "isolation_level": "read committed",
    # One statement. TRADITIONAL refuses what other modes cut off or bend into shape. wait_timeout holds on MariaDB and
    # MySQL alike; the idle_transaction_timeout of the one is unknown to the other.
    "init_command": f"SET SESSION sql_mode='TRADITIONAL', innodb_lock_wait_timeout={LOCK_WAIT}, wait_timeout={IDLE}",
    "connect_timeout": 5,
    # Seconds without a byte from the server, or to it: longer than a statement may wait for a lock, and short enough to
    # give up a connection that has gone silent in time.
    "read_timeout": 2 * LOCK_WAIT,
    "write_timeout": 2 * LOCK_WAIT,
}

#: Seconds for which a web thread keeps its connection for its next requests: to connect takes as long as to read.
#: So short that whoever comes after an outage or a silence never waits for a connection from before it.
KEPT = 1


def parse(url: str) -> dict[str, Any]:
    """An entry for DATABASES. Options in the URL's query go before ours: `?unix_socket=/run/mysqld/mysqld.sock`.

    Raises ImproperlyConfigured when the database's driver is not installed.
    """
    config: dict[str, Any] = dict(dj_database_url.parse(url, conn_max_age=KEPT))
    if config["ENGINE"] == SQLITE:
        config["OPTIONS"] = SQLITE_OPTIONS | config.get("OPTIONS", {})
    if config["ENGINE"] == MYSQL:
        _expect_driver()
        config["OPTIONS"] = MYSQL_OPTIONS | config.get("OPTIONS", {})
    return config


def _expect_driver() -> None:
    try:
        import MySQLdb  # noqa: F401
    except ImportError as error:
        raise ImproperlyConfigured(
            f"DATABASE_URL names a MySQL, and its driver cannot be loaded ({error}): "
            "install it with `.venv/bin/pip install --require-hashes -r requirements/all.lock` "
            "(it compiles; on Debian and Ubuntu it needs `apt install gcc pkg-config python3-dev libmariadb-dev`)."
        ) from None
