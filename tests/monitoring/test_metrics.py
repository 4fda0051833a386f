"""GET /metrics, with all dependencies and without some."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from prometheus_client.parser import text_string_to_metric_families

from applications.models import Application
from chats.models import Chat
from chatsystem.monitoring import metrics
from chatsystem.writelog import counts, live_stats, rollback_guard, stats, stream
from chatsystem.writelog.keys import partition_of
from tests.support.harness import RealRedis, Tenant, drain_all
from tests.support.product import PATIENCE

WAITING_FOR_THE_DATABASE = {"chatsystem_log_events", "chatsystem_log_age_seconds"}
WAITING_FOR_THE_INDEX = {"chatsystem_outbox_entries", "chatsystem_index_lag_seconds"}
OF_THE_STATE = WAITING_FOR_THE_DATABASE | {
    "chatsystem_halted_partitions",
    "chatsystem_superseded",
    "chatsystem_acknowledged_events_total",
    "chatsystem_stored_events_total",
    "chatsystem_drain_duration_seconds_bucket",
    "chatsystem_drain_duration_seconds_count",
    "chatsystem_drain_duration_seconds_sum",
    "chatsystem_drain_batch_events_bucket",
    "chatsystem_drain_batch_events_count",
    "chatsystem_drain_batch_events_sum",
    "chatsystem_count_drifts_total",
    "chatsystem_live_events_total",
    "chatsystem_live_delay_seconds_bucket",
    "chatsystem_live_delay_seconds_count",
    "chatsystem_live_delay_seconds_sum",
    "chatsystem_live_resets_total",
    "chatsystem_live_refused_total",
}
OF_THE_DATABASE = WAITING_FOR_THE_INDEX | {"chatsystem_dead_events"}
OF_LIVE = {"chatsystem_live_streams", "chatsystem_live_backlog_bytes"}
UP = {"state": 1.0, "database": 1.0, "search": 1.0, "workers": 1.0, "live": 1.0}

Labels = dict[str, str]


@pytest.fixture(autouse=True)
def working(state: object) -> None:
    """Simulates workers and a live process that have just reported."""
    stats.beat_heart()
    live_stats.report("a process", live_stats.Streams(0, 0), {})


@pytest.fixture(autouse=True)
def no_web_process(settings: Any, tmp_path: Path) -> None:
    """Hides the requests of other tests in this process."""
    settings.METRICS_DIR = tmp_path / "nobody's"


def samples(tenant: Tenant) -> dict[str, list[tuple[Labels, float]]]:
    """Returns the metrics by name."""
    response = tenant.api.get("/metrics", headers={"Accept": "text/plain;version=0.0.4"})
    assert response.status_code == 200, response.content
    assert response.headers["Content-Type"].startswith("text/plain; version=")
    found = defaultdict(list)
    for family in text_string_to_metric_families(response.content.decode()):
        assert family.documentation, family.name
        for sample in family.samples:
            found[sample.name].append((sample.labels, sample.value))
    return found


def scraped(tenant: Tenant) -> tuple[dict[str, float], dict[str, float]]:
    """Returns the metrics by name, summed over their labels, and which dependencies are up."""
    found = samples(tenant)
    up = {labels["dependency"]: value for labels, value in found.pop("chatsystem_up")}
    return {name: sum(value for _, value in values) for name, values in found.items()}, up


def test_what_waits_to_be_stored_and_to_be_indexed_is_counted_with_its_age(ours: Tenant) -> None:
    # Given an empty log,
    drain_all()
    found, up = scraped(ours)
    assert (found.keys(), up) == (OF_THE_STATE | OF_THE_DATABASE | OF_LIVE, UP)
    assert not [name for name in WAITING_FOR_THE_DATABASE | OF_THE_DATABASE if found[name]]

    # when writes are acknowledged but not stored, then their number and age are counted,
    began = time.monotonic()
    ours.chat()
    ours.batch(1, ["a", "b"])
    found, _ = scraped(ours)
    assert (found["chatsystem_log_events"], found["chatsystem_outbox_entries"]) == (3, 0)
    assert 0 < found["chatsystem_log_age_seconds"] <= time.monotonic() - began

    # and once they are stored, they wait for the index.
    drain_all()
    found, _ = scraped(ours)
    assert (found["chatsystem_log_events"], found["chatsystem_log_age_seconds"]) == (0, 0)
    assert found["chatsystem_outbox_entries"] == 1
    assert 0 < found["chatsystem_index_lag_seconds"] <= time.monotonic() - began


def totals(tenant: Tenant) -> tuple[float, float]:
    """Returns the acknowledged and stored totals of the tenant's partition."""
    found, partition = samples(tenant), {"partition": str(partition_of(tenant.token))}
    [acknowledged] = [value for labels, value in found["chatsystem_acknowledged_events_total"] if labels == partition]
    [stored] = [value for labels, value in found["chatsystem_stored_events_total"] if labels == partition]
    return acknowledged, stored


def test_each_acknowledged_and_each_stored_event_is_counted_once_and_a_restart_of_redis_loses_none(
    ours: Tenant, redis_server: RealRedis
) -> None:
    # Given an application, a chat, three messages of which one is sent twice, and a rejected message,
    ours.chat()
    for _ in range(2):
        ours.message(1, "once", **{"Idempotency-Key": "k"})
    ours.batch(1, ["two", "three"])
    assert ours.api.post(f"{ours.path}/chats/1/messages", {"body": ""}, format="json").status_code == 400
    assert totals(ours) == (5, 0)

    # when Redis is killed before and after they are stored, then the totals survive,
    redis_server.restart()
    assert totals(ours) == (5, 0)
    drain_all()
    redis_server.restart()
    assert totals(ours) == (5, 5)

    # and counting continues.
    ours.message(1, "four")
    assert totals(ours) == (6, 5)


def test_a_drain_is_counted_by_its_time_and_by_its_size(ours: Tenant) -> None:
    drain_all()
    before, _ = scraped(ours)
    ours.chat()
    ours.batch(1, ["a message"] * 30)
    began = time.monotonic()

    drain_all()

    took = time.monotonic() - began
    found, _ = scraped(ours)
    moved = {name: found[name] - before[name] for name in found}
    assert (moved["chatsystem_drain_duration_seconds_count"], moved["chatsystem_drain_batch_events_count"]) == (1, 1)
    assert 0 < moved["chatsystem_drain_duration_seconds_sum"] <= took
    assert moved["chatsystem_drain_batch_events_sum"] == 31
    sizes = {labels["le"]: value for labels, value in samples(ours)["chatsystem_drain_batch_events_bucket"]}
    assert (sizes["10.0"], sizes["50.0"], sizes["+Inf"]) == (1, 2, 2)


@pytest.mark.parametrize(
    ("seconds", "bucket"),
    [(0.0001, "0.01"), (0.01, "0.01"), (0.0101, "0.025"), (0.3, "0.5"), (2.5, "2.5"), (9, "+Inf")],
)
def test_a_drain_is_in_the_first_bucket_that_is_not_below_its_time(ours: Tenant, seconds: float, bucket: str) -> None:
    partition = partition_of(ours.token)
    events = stream.read({partition: 10})[partition].events

    stream.remove([stream.Removal(partition, events[-1].arrival, events)], stats.of_drain(seconds, len(events)))

    found = samples(ours)
    buckets = [(labels["le"], value) for labels, value in found["chatsystem_drain_duration_seconds_bucket"]]
    assert next(le for le, value in buckets if value) == bucket
    assert {value for _, value in buckets} <= {0.0, 1.0}
    assert found["chatsystem_drain_duration_seconds_sum"][0][1] == pytest.approx(seconds)


def test_each_count_that_was_found_wrong_is_counted(ours: Tenant) -> None:
    for _ in range(3):
        ours.message(ours.chat()["number"])
    drain_all()
    Application.objects.update(chats_count=5)
    Chat.objects.update(messages_count=5)

    assert len(counts.reconcile_due()) == 4

    found, _ = scraped(ours)
    assert found["chatsystem_count_drifts_total"] == 4


def test_dead_events_are_counted(ours: Tenant) -> None:
    drain_all()
    Application.objects.all().delete()
    ours.chat()
    ours.chat()
    drain_all()

    found, _ = scraped(ours)

    assert found["chatsystem_dead_events"] == 2


def test_halted_partitions_are_counted(ours: Tenant) -> None:
    rollback_guard.halt(3)
    rollback_guard.halt(60)

    found, _ = scraped(ours)

    assert found["chatsystem_halted_partitions"] == 2


def test_without_redis_its_metrics_are_absent_and_it_is_told_as_not_up(ours: Tenant, redis_server: RealRedis) -> None:
    redis_server.kill()
    try:
        found, up = scraped(ours)
    finally:
        redis_server.start()

    assert (set(found), up) == (OF_THE_DATABASE, UP | {"state": 0.0, "workers": 0.0, "live": 0.0})


@pytest.fixture
def no_tables() -> Iterator[None]:
    """Breaks a query on every kind of database, by renaming its table."""
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE writelog_deadevent RENAME TO elsewhere")
        yield
        cursor.execute("ALTER TABLE elsewhere RENAME TO writelog_deadevent")


def test_without_the_database_its_metrics_are_absent_and_it_is_told_as_not_up(ours: Tenant, no_tables: None) -> None:
    found, up = scraped(ours)

    assert (set(found), up) == (OF_THE_STATE | OF_LIVE, UP | {"database": 0.0})


def test_workers_that_are_silent_are_told_as_not_up(ours: Tenant, state: Any) -> None:
    state.delete("{0}:heartbeat")

    assert scraped(ours)[1] == UP | {"workers": 0.0}


def test_live_processes_are_added_up_while_they_live_and_what_they_did_for_ever(ours: Tenant, state: Any) -> None:
    did = {live_stats.DELIVERED: 5, live_stats.WAITED: 3_000_000, live_stats.delay_field(0.25): 4}
    live_stats.report("one", live_stats.Streams(3, 1_000), did)
    live_stats.report("another", live_stats.Streams(4, 2_000), {live_stats.RESETS: 1, live_stats.REFUSED: 2})
    live_stats.report("another", live_stats.Streams(2, 2_000), {live_stats.RESETS: 1})
    state.hset("{0}:live", "that ended", "1795449565 100 100")

    found, _ = scraped(ours)

    assert (found["chatsystem_live_streams"], found["chatsystem_live_backlog_bytes"]) == (5, 3_000)
    assert (found["chatsystem_live_events_total"], found["chatsystem_live_delay_seconds_sum"]) == (5, 3)
    assert (found["chatsystem_live_resets_total"], found["chatsystem_live_refused_total"]) == (2, 2)
    delays = {labels["le"]: value for labels, value in samples(ours)["chatsystem_live_delay_seconds_bucket"]}
    assert (delays["0.1"], delays["0.25"], delays["+Inf"]) == (0, 4, 4)


def test_live_processes_that_are_silent_are_told_as_not_up(ours: Tenant, state: Any) -> None:
    state.delete("{0}:live")

    found, up = scraped(ours)

    # What was delivered before is still known.
    assert (set(found), up) == (OF_THE_STATE | OF_THE_DATABASE, UP | {"live": 0.0})


def test_one_that_is_silent_does_not_keep_a_scrape_waiting_for_longer_than_scrapers_wait(
    ours: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As in the product.
    monkeypatch.setattr(metrics, "PATIENCE", 5.0)
    answered = threading.Event()
    monkeypatch.setattr("search.backends.fts5.Fts5Backend.ping", lambda backend: answered.wait(2 * PATIENCE))
    began = time.monotonic()

    found, up = scraped(ours)

    took = time.monotonic() - began
    answered.set()
    assert took < PATIENCE
    assert (set(found), up) == (OF_THE_STATE | OF_THE_DATABASE | OF_LIVE, UP | {"search": 0.0})


def test_metrics_cross_applications_and_need_the_admin_key_where_there_is_one(ours: Tenant, settings: Any) -> None:
    settings.ADMIN_API_KEY = "the admin's key"

    refused = ours.api.get("/metrics")
    assert (refused.status_code, refused.json()["errors"][0]["code"]) == (401, "not_authenticated")
    assert ours.api.get("/metrics", headers={"Authorization": "Bearer the admin's key"}).status_code == 200
