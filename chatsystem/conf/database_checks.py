"""System checks of the database server. Documented in docs/databases.md.

They run with `manage.py check --database default` and before each migration. `make run` begins with a migration.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from django.core.checks import CheckMessage, Error, Tags, Warning, register
from django.db import DEFAULT_DB_ALIAS, DatabaseError, InterfaceError, connections

from chatsystem.monitoring import hosts

MEGABYTE = 2**20
#: Four times the largest statement of the product (writelog/bulk.py).
MIN_PACKET = 16 * MEGABYTE

VARIABLES = (
    "binlog_format",
    "innodb_flush_log_at_trx_commit",
    "log_bin",
    "max_allowed_packet",
    "sql_mode",
    "transaction_isolation",
    "tx_isolation",
)


@register(Tags.database)
def server_is_fit(databases: Sequence[str] | None = None, **kwargs: object) -> list[CheckMessage]:
    found: list[CheckMessage] = []
    for alias in databases or []:
        connection: Any = connections[alias]
        if connection.vendor == "mysql":
            found += [*_server(connection), *_tables(connection)]
    return found


@register(Tags.database)
def hosts_agree(databases: Sequence[str] | None = None, **kwargs: object) -> list[CheckMessage]:
    if DEFAULT_DB_ALIAS not in (databases or []):
        return []
    try:
        found = hosts.differences()
    except (DatabaseError, InterfaceError, ImportError):
        # No tables yet or the database is down: the migration reports it. No driver of the backend: search.E004 does.
        return []
    return [
        Warning(f"Another host on this database differs in {name}.", hint=remedy, id="chatsystem.W011")
        for name, remedy in map(hosts.COMMON.__getitem__, found)
    ]


def _server(connection: Any) -> Iterator[CheckMessage]:
    name, oldest = ("MariaDB", (10, 6)) if connection.mysql_is_mariadb else ("MySQL", (8, 4))
    if connection.mysql_version < oldest:
        yield Error(
            f"The server is {name} {_dotted(connection.mysql_version)}; {_dotted(oldest)} or later is required.",
            hint="Drains need SELECT … FOR UPDATE SKIP LOCKED: use MariaDB 10.6 or MySQL 8.4.",
            id="chatsystem.E010",
        )
    variables = _variables(connection)
    if "STRICT_TRANS_TABLES" not in variables["sql_mode"].split(","):
        yield Error(
            "The sessions are not in strict mode, so the server would truncate values that do not fit.",
            hint="Remove init_command from DATABASE_URL; the default mode is TRADITIONAL.",
            id="chatsystem.E011",
        )
    # MariaDB before 11.1 only knows tx_isolation.
    isolation = variables.get("transaction_isolation") or variables["tx_isolation"]
    if isolation != "READ-COMMITTED":
        yield Error(
            f"The isolation level is {isolation}: a drain that waited for a lock would read the state from before.",
            hint="Remove isolation_level from DATABASE_URL; the default is READ COMMITTED.",
            id="chatsystem.E012",
        )
    if int(variables["max_allowed_packet"]) < MIN_PACKET:
        yield Error(
            f"max_allowed_packet is {variables['max_allowed_packet']} bytes, but statements may have several MB.",
            hint="Set it in the server's configuration: max_allowed_packet=64M",
            id="chatsystem.E013",
        )
    if variables["log_bin"] == "ON" and variables.get("binlog_format") == "STATEMENT":
        yield Error(
            "binlog_format is STATEMENT: the server refuses writes at isolation level READ COMMITTED.",
            hint="Set it in the server's configuration: binlog_format=ROW",
            id="chatsystem.E014",
        )
    if variables["innodb_flush_log_at_trx_commit"] != "1":
        yield Warning(
            "innodb_flush_log_at_trx_commit is not 1: a power cut may undo commits whose events have left the log.",
            hint="Set it in the server's configuration: innodb_flush_log_at_trx_commit=1",
            id="chatsystem.W010",
        )


def _tables(connection: Any) -> Iterator[CheckMessage]:
    """Checks that texts are compared byte by byte, as in SQLite and Redis: with case, accents and trailing spaces."""
    binary = "utf8mb4_nopad_bin" if connection.mysql_is_mariadb else "utf8mb4_0900_bin"
    with connection.cursor() as cursor:
        cursor.execute("SELECT DATABASE(), @@collation_database")
        database, collation = cursor.fetchone()
        cursor.execute(
            "SELECT table_name FROM information_schema.tables WHERE table_schema = DATABASE()"
            " AND table_type = 'BASE TABLE' AND (table_collation <> %s OR engine <> 'InnoDB') ORDER BY table_name",
            [binary],
        )
        tables = [name for (name,) in cursor.fetchall()]
    if collation != binary:
        yield Error(
            f"The database's collation is {collation}: two different texts could count as equal.",
            hint=f"ALTER DATABASE `{database}` CHARACTER SET utf8mb4 COLLATE {binary};",
            id="chatsystem.E015",
        )
    if tables:
        yield Error(
            f"These tables have another collation or engine: {', '.join(tables)}.",
            hint=f"For each: ALTER TABLE … ENGINE=InnoDB, CONVERT TO CHARACTER SET utf8mb4 COLLATE {binary};",
            id="chatsystem.E016",
        )


def _variables(connection: Any) -> dict[str, str]:
    """Returns the session's variables. SHOW leaves out names that the server does not know."""
    with connection.cursor() as cursor:
        cursor.execute("SHOW VARIABLES WHERE Variable_name IN %s", [VARIABLES])
        return dict(cursor.fetchall())


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))
