"""Writes rows directly into the product's tables."""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from itertools import count

import MySQLdb

from tests.support.services.database_server import PASSWORD, USER, DatabaseServer

COLUMNS = "chat_id, number, body, created_at, last_request_time"
INSERT = f"INSERT INTO messages_app_message ({COLUMNS}) VALUES (%s, %s, %s, %s, %s)"
MOMENT = "2023-11-14 00:00:00.000000"
#: The number of rows sent by the client. The others are copied from them by the server, which is faster.
FROM_CLIENT = 100_000


def new_chat(server: DatabaseServer, database: str, token: str = "", number: int = 1) -> tuple[int, str]:
    """Creates an empty chat, in a new application without a token. Returns its id and the application's token."""
    applications, chats = f"{database}.applications_application", f"{database}.chats_chat"
    times = "created_at, last_request_time"
    if not token:
        token = secrets.token_hex(16)
        server.execute(
            f"INSERT INTO {applications} (token, name, chats_count, recount_due, {times})"
            f" VALUES ('{token}', 'filled', 1, 0, '{MOMENT}', '{MOMENT}')"
        )
    server.execute(
        f"INSERT INTO {chats} (application_id, number, title, messages_count, recount_due, {times})"
        f" SELECT id, {number}, 'filled', 0, 0, '{MOMENT}', '{MOMENT}' FROM {applications} WHERE token = '{token}'"
    )
    ((chat_id,),) = server.execute(
        f"SELECT c.id FROM {chats} c JOIN {applications} a ON a.id = c.application_id"
        f" WHERE a.token = '{token}' AND c.number = {number}"
    )
    return chat_id, token


def executemany(server: DatabaseServer, database: str, rows: Sequence[tuple]) -> float:
    """Inserts messages in one transaction, with the driver alone. Returns the seconds that it took."""
    connection = MySQLdb.connect(
        host="127.0.0.1", port=server.port, user=USER, password=PASSWORD, database=database, charset="utf8mb4"
    )
    try:
        began = time.monotonic()
        connection.cursor().executemany(INSERT, rows)
        connection.commit()
        return time.monotonic() - began
    finally:
        connection.close()


def fill(server: DatabaseServer, database: str, chat_id: int, bodies: Sequence[str], messages: int) -> None:
    """Fills an empty chat with messages 1 to `messages`, repeating the bodies in order."""
    bodies = bodies[:FROM_CLIENT]
    rows = [(chat_id, n, body, MOMENT, MOMENT) for n, body in zip(count(1), bodies[:messages], strict=False)]
    executemany(server, database, rows)
    for start in range(len(rows), messages, len(rows)):
        copy(server, database, chat_id, chat_id, min(len(rows), messages - start), start)
    server.execute(f"UPDATE {database}.chats_chat SET messages_count = {messages} WHERE id = {chat_id}")


def copy(server: DatabaseServer, database: str, source: int, target: int, messages: int, shift: int = 0) -> None:
    """Copies a chat's first messages into a chat. Adds `shift` to their numbers."""
    table = f"{database}.messages_app_message"
    server.execute(
        f"INSERT INTO {table} ({COLUMNS})"
        f" SELECT {target}, number + {shift}, body, created_at, last_request_time FROM {table}"
        f" WHERE chat_id = {source} AND number <= {messages} ORDER BY number"
    )
