"""GET /metrics: what waits where, in Prometheus text, whatever is away."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connection
from prometheus_client.parser import text_string_to_metric_families

from applications.models import Application
from tests.bench import RealRedis, Tenant, drain_all

OF_THE_STATE = {"chatsystem_log_events", "chatsystem_log_age_seconds"}
OF_THE_DATABASE = {"chatsystem_dead_events", "chatsystem_outbox_entries", "chatsystem_index_lag_seconds"}
UP = {"state": 1.0, "database": 1.0}


def scraped(tenant: Tenant) -> tuple[dict[str, float], dict[str, float]]:
    """The metrics by name, and which dependencies are up."""
    response = tenant.api.get("/metrics", headers={"Accept": "text/plain;version=0.0.4"})
    assert response.status_code == 200, response.content
    assert response.headers["Content-Type"].startswith("text/plain; version=")
    samples = [
        sample for family in text_string_to_metric_families(response.content.decode()) for sample in family.samples
    ]
    up = {sample.labels["dependency"]: sample.value for sample in samples if sample.labels}
    return {sample.name: sample.value for sample in samples if not sample.labels}, up


def test_what_waits_to_be_stored_and_to_be_indexed_is_counted_with_its_age(ours: Tenant) -> None:
    # Given nothing that waits,
    drain_all()
    found, up = scraped(ours)
    assert (found, up) == (dict.fromkeys(OF_THE_STATE | OF_THE_DATABASE, 0.0), UP)

    # when writes are acknowledged and not stored, then they are counted, and age;
    began = time.monotonic()
    ours.chat()
    ours.batch(1, ["a", "b"])
    found, _ = scraped(ours)
    assert (found["chatsystem_log_events"], found["chatsystem_outbox_entries"]) == (3, 0)
    assert 0 < found["chatsystem_log_age_seconds"] <= time.monotonic() - began

    # and once they are stored they wait for the index.
    drain_all()
    found, _ = scraped(ours)
    assert (found["chatsystem_log_events"], found["chatsystem_log_age_seconds"]) == (0, 0)
    assert found["chatsystem_outbox_entries"] == 1
    assert 0 < found["chatsystem_index_lag_seconds"] <= time.monotonic() - began


def test_dead_events_are_counted(ours: Tenant) -> None:
    drain_all()
    Application.objects.all().delete()
    ours.chat()
    ours.chat()
    drain_all()

    found, _ = scraped(ours)

    assert found["chatsystem_dead_events"] == 2


def test_without_redis_its_metrics_are_absent_and_it_is_told_as_not_up(ours: Tenant, redis_server: RealRedis) -> None:
    redis_server.kill()
    try:
        found, up = scraped(ours)
    finally:
        redis_server.start()

    assert (set(found), up) == (OF_THE_DATABASE, UP | {"state": 0.0})


@pytest.fixture
def no_tables() -> Iterator[None]:
    """A database that cannot answer, of every kind."""
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE writelog_deadevent RENAME TO elsewhere")
        yield
        cursor.execute("ALTER TABLE elsewhere RENAME TO writelog_deadevent")


def test_without_the_database_its_metrics_are_absent_and_it_is_told_as_not_up(ours: Tenant, no_tables: None) -> None:
    found, up = scraped(ours)

    assert (set(found), up) == (OF_THE_STATE, UP | {"database": 0.0})


def test_metrics_cross_applications_and_need_the_admin_key_where_there_is_one(ours: Tenant, settings: Any) -> None:
    settings.ADMIN_API_KEY = "the admin's key"

    refused = ours.api.get("/metrics")
    assert (refused.status_code, refused.json()["errors"][0]["code"]) == (401, "not_authenticated")
    assert ours.api.get("/metrics", headers={"Authorization": "Bearer the admin's key"}).status_code == 200
