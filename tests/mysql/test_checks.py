"""The checks report a misconfigured server and say what to type."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.core.checks import run_checks
from django.db import connection, connections

from tests.support import environment

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _afterwards(state: object) -> Iterator[None]:
    yield
    connection.close()


def found() -> dict[str, str]:
    connection.close()
    messages = run_checks(tags=["database"], databases=["default"])
    return {str(message.id): str(message.hint) for message in messages if str(message.id).startswith("chatsystem")}


@pytest.fixture
def server_variable() -> Iterator[Any]:
    before: list[tuple[str, object]] = []

    def change(name: str, value: object) -> None:
        before.append((name, environment.server.execute(f"SELECT @@GLOBAL.{name}")[0][0]))
        environment.server.execute(f"SET GLOBAL {name} = {value}")

    yield change
    for name, value in before:
        environment.server.execute(f"SET GLOBAL {name} = {value}")


def test_the_server_of_the_tests_passes_the_checks() -> None:
    assert found() == {}


def test_an_old_server_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(connections["default"].__dict__, "mysql_version", (8, 0, 45) if not _mariadb() else (10, 5, 29))
    assert "SKIP LOCKED" in found()["chatsystem.E010"]


@pytest.mark.parametrize(
    ("option", "value", "id"),
    [
        ("init_command", "SET SESSION sql_mode=''", "chatsystem.E011"),
        ("isolation_level", "repeatable read", "chatsystem.E012"),
    ],
)
def test_options_that_weaken_a_session_are_reported(
    monkeypatch: pytest.MonkeyPatch, option: str, value: str, id: str
) -> None:
    monkeypatch.setitem(connection.settings_dict["OPTIONS"], option, value)
    assert "DATABASE_URL" in found()[id]


@pytest.mark.parametrize(
    ("name", "value", "id", "hint"),
    [
        ("max_allowed_packet", 4 * 2**20, "chatsystem.E013", "max_allowed_packet=64M"),
        ("innodb_flush_log_at_trx_commit", 2, "chatsystem.W010", "innodb_flush_log_at_trx_commit=1"),
    ],
)
def test_an_unsafe_variable_is_reported(server_variable: Any, name: str, value: object, id: str, hint: str) -> None:
    server_variable(name, value)
    assert hint in found()[id]


def test_a_database_that_equates_different_texts_is_reported() -> None:
    name = connection.settings_dict["NAME"]
    fit = environment.server.collation
    environment.server.execute(f"ALTER DATABASE `{name}` COLLATE utf8mb4_general_ci")
    try:
        hint = found()["chatsystem.E015"]
    finally:
        environment.server.execute(f"ALTER DATABASE `{name}` COLLATE {fit}")
    assert hint == f"ALTER DATABASE `{name}` CHARACTER SET utf8mb4 COLLATE {fit};"


def test_a_table_that_does_not_fit_the_product_is_reported() -> None:
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE stranger (a varchar(9)) ENGINE=MyISAM")
    try:
        assert "ALTER TABLE" in found()["chatsystem.E016"]
    finally:
        with connection.cursor() as cursor:
            cursor.execute("DROP TABLE stranger")


def _mariadb() -> bool:
    return bool(connection.mysql_is_mariadb)
