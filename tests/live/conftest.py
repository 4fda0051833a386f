"""A live process for a test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.live import LiveServer


@pytest.fixture
def start_live(api: object, tmp_path: Path) -> Iterator[Callable[..., LiveServer]]:
    """Call it with settings or constants to start a live process."""
    servers = []

    def start(**options: Any) -> LiveServer:
        servers.append(LiveServer(tmp_path / f"live-{len(servers)}.log", **options))
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


@pytest.fixture(scope="module")
def module_live(
    django_db_setup: None, redis_server: object, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LiveServer]:
    """A start takes seconds, so the tests of a file share one. It does not mind that they empty Redis and database."""
    server = LiveServer(tmp_path_factory.mktemp("live") / "live.log")
    yield server
    server.stop()


@pytest.fixture
def live(api: object, module_live: LiveServer) -> LiveServer:
    if module_live.process.poll() is not None:
        module_live.start()
    return module_live
