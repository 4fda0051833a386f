"""The test bench: a real Redis, a real database, and two tenants, `ours` and `theirs`."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

# Before Django reads its settings: a state Redis and files of this run's own.
_folder = tempfile.TemporaryDirectory(prefix="chatsystem-tests-")
os.environ["DATA_DIR"] = _folder.name
for name in ("DATABASE_URL", "REDIS_URL", "CACHE_URL", "CELERY_BROKER_URL", "ADMIN_API_KEY", "HTTPS_ONLY"):
    os.environ.pop(name, None)

import pytest  # noqa: E402
from rest_framework.test import APIClient  # noqa: E402

from tests.bench import Tenant, drain_all, start_redis  # noqa: E402


@pytest.fixture(scope="session")
def redis_process() -> Iterator[subprocess.Popen]:
    process = start_redis(Path(_folder.name))
    yield process
    process.terminate()
    process.wait(10)


@pytest.fixture(scope="session")
def django_db_modify_db_settings(redis_process: subprocess.Popen) -> None:
    """A file, not memory: threads and other processes open it too."""
    from django.conf import settings

    settings.DATABASES["default"].setdefault("TEST", {})["NAME"] = str(Path(_folder.name) / "test.sqlite3")


@pytest.fixture
def state(redis_process: subprocess.Popen) -> object:
    """The state Redis, empty."""
    from chatsystem.writelog import log

    log.client().flushall()
    return log.client()


@pytest.fixture
def api(state: object, transactional_db: None) -> APIClient:
    return APIClient(raise_request_exception=False)


@pytest.fixture
def ours(api: APIClient) -> Tenant:
    """The tenant that a test acts for."""
    return Tenant.new(api, "ours")


@pytest.fixture
def theirs(api: APIClient) -> Tenant:
    """Another tenant, with a chat and a message of the same numbers: nothing of it may show, nothing may change."""
    tenant = Tenant.new(api, "theirs")
    tenant.chat("theirs")
    tenant.message(1, "theirs")
    return tenant


@pytest.fixture
def drained() -> object:
    """Call it to have everything stored now."""
    return drain_all
