"""System checks that ask the database server itself. Documented in docs/operations.md.

They run with `manage.py check --database default`, and before each migration, which `make run` begins with.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from django.core.checks import CheckMessage, Error, Tags, Warning, register
from django.db import connections

MEGABYTE = 2**20
#: Four times what a statement of ours has at most (writelog/bulk.py).
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


def _server(connection: Any) -> Iterator[CheckMessage]:
    name, oldest = ("MariaDB", (10, 6)) if connection.mysql_is_mariadb else ("MySQL", (8, 4))
    if connection.mysql_version < oldest:
        yield Error(
            f"The server is {name} {_dotted(connection.mysql_version)}, and {_dotted(oldest)} or later is needed.",
            hint="The write log's drains rest on SELECT … FOR UPDATE SKIP LOCKED: use MariaDB 10.6 or MySQL 8.4.",
            id="chatsystem.E010",
        )
    variables = _variables(connection)
    if "STRICT_TRANS_TABLES" not in variables["sql_mode"].split(","):
        yield Error(
            "The sessions are not strict: the server would cut off what does not fit.",
            hint="Take init_command out of DATABASE_URL; what is set without it is TRADITIONAL.",
            id="chatsystem.E011",
        )
    # MariaDB before 11.1 knows it by its old name only.
    isolation = variables.get("transaction_isolation") or variables["tx_isolation"]
    if isolation != "READ-COMMITTED":
        yield Error(
            f"The sessions' isolation is {isolation}: who waited for a lock would read the state from before.",
            hint="Take isolation_level out of DATABASE_URL; what is set without it is READ COMMITTED.",
            id="chatsystem.E012",
        )
    if int(variables["max_allowed_packet"]) < MIN_PACKET:
        yield Error(
            f"max_allowed_packet is {variables['max_allowed_packet']} bytes, and statements may have several MB.",
            hint="Set it in the server's configuration: max_allowed_packet=64M",
            id="chatsystem.E013",
        )
    if variables["log_bin"] == "ON" and variables.get("binlog_format") == "STATEMENT":
        yield Error(
            "The server logs statements (binlog_format): it refuses to write at the isolation READ COMMITTED.",
            hint="Set it in the server's configuration: binlog_format=ROW",
            id="chatsystem.E014",
        )
    if variables["innodb_flush_log_at_trx_commit"] != "1":
        yield Warning(
            "innodb_flush_log_at_trx_commit is not 1: a power cut may take back what has left the write log.",
            hint="Set it in the server's configuration: innodb_flush_log_at_trx_commit=1",
            id="chatsystem.W010",
        )


def _tables(connection: Any) -> Iterator[CheckMessage]:
    """Case, accents and closing spaces tell tokens, names and texts apart here as in SQLite and in Redis."""
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
            f"The database compares texts by {collation}: two of them that differ could count as the same.",
            hint=f"ALTER DATABASE `{database}` CHARACTER SET utf8mb4 COLLATE {binary};",
            id="chatsystem.E015",
        )
    if tables:
        yield Error(
            f"These tables were made with another collation or engine: {', '.join(tables)}.",
            hint=f"For each: ALTER TABLE … ENGINE=InnoDB, CONVERT TO CHARACTER SET utf8mb4 COLLATE {binary};",
            id="chatsystem.E016",
        )


def _variables(connection: Any) -> dict[str, str]:
    """As this session has them. A server knows not all of the names, and SHOW leaves out what it does not know."""
    with connection.cursor() as cursor:
        cursor.execute("SHOW VARIABLES WHERE Variable_name IN %s", [VARIABLES])
        return dict(cursor.fetchall())


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))
