from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from chatsystem.writelog import ownership
from tests.support.harness import forget_redis
from tests.support.product import eventually
from tests.support.redis_servers import Server, use


@pytest.fixture
def leader(tmp_path: Path, settings: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    # As in `state`: a lease ends only when a test ends it.
    monkeypatch.setattr(ownership, "LEASE", 3_600.0)
    with ExitStack() as running:
        server = Server(tmp_path / "leader")
        running.callback(server.kill)
        # Called now, and again when the settings are restored.
        running.callback(forget_redis)
        use(server, settings)
        yield server


@pytest.fixture
def replica(tmp_path: Path, leader: Server, settings: Any) -> Iterator[Server]:
    server = Server(tmp_path / "replica", leader)
    eventually(lambda: server.client.info("replication")["master_link_status"] == "up")
    settings.REDIS_REPLICAS = 1
    yield server
    server.kill()
