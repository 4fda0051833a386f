"""The session settings of each connection, and how texts are compared and stored."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import pytest
from django.db import connection
from django.db.utils import ConnectionHandler
from django.utils import timezone

from applications.models import Application
from chatsystem.conf import database
from messages_app.models import Message
from tests.support import environment
from tests.support.harness import Tenant, drain_all


@pytest.mark.django_db(transaction=True)
def test_a_session_is_strict_reads_what_is_committed_and_does_not_wait_for_ever() -> None:
    # The tests' own sessions may be idle for longer.
    session = ConnectionHandler({"default": database.parse(environment.server.url("mysql"))})["default"]
    with closing(session), session.cursor() as cursor:
        cursor.execute("SELECT @@sql_mode, @@innodb_lock_wait_timeout, @@wait_timeout, @@character_set_client")
        mode, lock_wait, idle, charset = cursor.fetchone()
        # Its name differs between MariaDB and MySQL.
        cursor.execute("SHOW VARIABLES WHERE Variable_name IN ('tx_isolation', 'transaction_isolation')")
        isolation = {value for _, value in cursor.fetchall()}
    assert "STRICT_TRANS_TABLES" in mode
    assert (lock_wait, idle, charset) == (database.LOCK_WAIT, database.IDLE, "utf8mb4")
    assert isolation == {"READ-COMMITTED"}


def test_a_unix_socket_is_an_option_of_the_url() -> None:
    import MySQLdb

    assert environment.server
    config = database.parse(f"mysql://root@/mysql?unix_socket={environment.server.socket}")
    assert config["OPTIONS"]["init_command"] == database.MYSQL_OPTIONS["init_command"]
    MySQLdb.connect(unix_socket=config["OPTIONS"]["unix_socket"], user=config["USER"]).close()


def test_an_option_of_the_url_goes_before_ours() -> None:
    options = database.parse("mysql://chat@host/chat?read_timeout=60")["OPTIONS"]

    assert options == database.MYSQL_OPTIONS | {"read_timeout": 60}


@pytest.mark.parametrize("near", ["ABC", "ábc", "abc ", "abc\0", "ab\u200bc"])
def test_a_token_that_nearly_matches_is_another_one(api: object, near: str) -> None:
    for token in ("abc", near):
        Application.objects.create(token=token, name="x", created_at=timezone.now(), last_request_time=timezone.now())
    assert Application.objects.get(token="abc").pk != Application.objects.get(token=near).pk


@pytest.mark.parametrize(
    "body",
    ["ends in blanks  ", "\n\r\t\\ ' \" % _ \x1a", "é e\u0301 É", "👩‍👩‍👧‍👦 \U0010ffff \ufeff\u2028", "%s %(a)s ? {}"],
)
def test_a_body_is_kept_to_the_byte(ours: Tenant, body: str) -> None:
    ours.chat()
    ours.message(1, body)
    drain_all()
    assert Message.objects.get().body.encode() == body.encode()


def test_no_statement_is_larger_than_four_megabytes(ours: Tenant) -> None:
    # Given 400 bodies of 64 KB each, together more than one statement may hold,
    ours.chat()
    for _ in range(8):
        ours.batch(1, ["\U0001f600" * 16_000] * 50)

    # when all of them are stored by one drain, and all of them edited by another,
    sizes: list[int] = []

    def measure(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        result = execute(sql, params, many, context)
        sizes.append(len(context["cursor"].cursor._executed or b""))
        return result

    with connection.execute_wrapper(measure):
        drain_all()
        for number in range(1, 101):
            # Escaping doubles the length.
            ours.api.patch(f"{ours.path}/chats/1/messages/{number}", {"body": "'" * 16_000}, format="json")
        drain_all()

    # then they are stored, in statements below 4 MB.
    assert Message.objects.count() == 400
    assert Message.objects.filter(body="'" * 16_000).count() == 100
    assert 2_000_000 < max(sizes) < 4 * 2**20
