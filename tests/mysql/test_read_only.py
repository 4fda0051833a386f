"""A read-only server answers and stores nothing: readiness reports it, and writes are still accepted."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.db import connection, connections

from chatsystem.monitoring.health import dependencies
from tests.support import environment
from tests.support.harness import Tenant, drain_all
from tests.support.services.database_server import PASSWORD


@pytest.fixture
def plain_user(ours: Tenant) -> Iterator[None]:
    """Gives the product's user all rights in its database and no others, as docs/howto/mysql.md does.

    The tests' own may write to a server that is read-only.
    """
    name = connection.settings_dict["NAME"]
    environment.server.execute(
        f"CREATE USER plain@'%' IDENTIFIED BY '{PASSWORD}'", f"GRANT ALL ON `{name}`.* TO plain@'%'"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(connections.settings["default"], "USER", "plain")
        connection.close()
        yield
        connection.close()
    environment.server.execute("DROP USER plain@'%'")


def test_a_read_only_server_is_reported_as_down_and_acknowledged_writes_are_stored_later(
    ours: Tenant, plain_user: None
) -> None:
    assert dependencies()["database"] == "ok"
    chat = ours.chat()
    drain_all()

    environment.server.execute("SET GLOBAL read_only = 1")
    try:
        told = dependencies()["database"]
        ours.message(chat["number"], "meanwhile")
        ready = ours.api.get("/health/ready")
    finally:
        environment.server.execute("SET GLOBAL read_only = 0")

    assert told == "down: the server is read-only (1290)"
    assert (ready.status_code, ready.json()["status"]) == (200, "degraded")
    assert dependencies()["database"] == "ok"
    assert drain_all() == 1
