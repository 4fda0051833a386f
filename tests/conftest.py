"""The test bench: a real Redis, a real database, and two tenants, `ours` and `theirs`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from django.apps import apps
from django.conf import settings
from django.contrib.auth.management import create_permissions
from django.db.models.signals import post_migrate
from rest_framework.test import APIClient

from chatsystem.api.static import StaticFile, StaticFiles
from tests.support import environment
from tests.support.distribution import LongestFirst, longest_first
from tests.support.harness import RealRedis, Tenant, drain_all, skip_or_fail
from tests.support.product import PATIENCE
from tests.support.services.packages import Missing

if TYPE_CHECKING:
    from playwright.sync_api import Browser

# What only a database server can do.
collect_ignore = [] if environment.server else ["mysql"]


def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> LongestFirst | None:
    return LongestFirst(config, log) if config.getoption("dist") == "loadfile" else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items[:] = longest_first(items)


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RealRedis]:
    server = RealRedis()
    yield server
    server.kill()


@pytest.fixture(scope="session", autouse=True)
def database_server() -> Iterator[None]:
    """Runs the database server that DATABASE asks for, if any: commands that tests start look for it too."""
    if environment.missing:
        skip_or_fail(environment.missing)
    if environment.server:
        environment.server.start()
        environment.server.new_database(environment.NAME)
    yield
    if environment.server:
        environment.server.kill()


@pytest.fixture(scope="session")
def django_db_modify_db_settings(redis_server: RealRedis, database_server: None) -> None:
    """SQLite: a file, not memory, since threads and other processes open it too."""
    if not environment.server:
        settings.DATABASES["default"].setdefault("TEST", {})["NAME"] = str(settings.DATA_DIR.root / "test.sqlite3")


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None) -> None:
    """After each test Django would create all permissions again, in half of a short test's time."""
    post_migrate.disconnect(dispatch_uid="django.contrib.auth.management.create_permissions")


@pytest.fixture
def all_permissions(transactional_db: None) -> None:
    """The permissions of all models, which a test's database is without."""
    for app in apps.get_app_configs():
        create_permissions(app, verbosity=0)


@pytest.fixture(scope="session", autouse=True)
def static_files() -> Iterator[None]:
    """Looks for the static files once. Each test's client would do so, in a third of a short test's time."""
    found: dict[str, StaticFile] = {}
    look_for_them = StaticFiles.add_files_from_finders

    def once(middleware: StaticFiles) -> None:
        if not found:
            look_for_them(middleware)
            found.update(middleware.files)
        middleware.files.update(found)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(StaticFiles, "add_files_from_finders", once)
        yield


@pytest.fixture(autouse=True)
def patient_probes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is told as down because the machine stood still for a moment."""
    from chatsystem.monitoring import health, metrics

    monkeypatch.setattr(health, "PATIENCE", PATIENCE)
    monkeypatch.setattr(metrics, "PATIENCE", PATIENCE)


@pytest.fixture(scope="session", autouse=True)
def patient_cache() -> None:
    """Nothing passes the cache by for that reason either. By itself it is waited for one second."""
    settings.CACHES["default"]["OPTIONS"]["SOCKET_TIMEOUT"] = PATIENCE


@pytest.fixture
def state(redis_server: RealRedis, monkeypatch: pytest.MonkeyPatch) -> object:
    """The state Redis, empty."""
    from chatsystem.writelog import ownership, tasks
    from chatsystem.writelog.append import hints
    from chatsystem.writelog.redis_client import client

    # No worker sweeps here: on a slow machine a lease would end in the middle of a test, and so would a drain's turn.
    monkeypatch.setattr(ownership, "LEASE", 3_600.0)
    monkeypatch.setattr(tasks, "DRAIN_TURN", 3_600.0)

    client(0).flushall()
    hints.asks_at = 0.0
    hints.due.clear()
    return client(0)


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


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A real browser. tests/backoffice and tests/api have simpler ones of this name."""
    from tests.support.services.chromium import chromium

    try:
        with chromium() as running:
            yield running
    except Missing as missing:
        skip_or_fail(missing)


@pytest.fixture
def drained() -> object:
    """Call it to have everything stored now."""
    return drain_all


@pytest.fixture
def nobody_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Redis that is not the owner takes over as soon as it is asked, as if the owner had been gone for long."""
    from chatsystem.writelog import ownership

    monkeypatch.setattr(ownership, "TAKE_OVER_AFTER", 0)
