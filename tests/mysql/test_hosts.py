"""Hosts of one database report settings in which they must not differ, for as long as they differ."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from django.core.checks import CheckMessage, run_checks
from django.db import connection
from django.db.models import F
from rest_framework.test import APIClient

from chatsystem.models import HostConfiguration
from chatsystem.monitoring import hosts
from chatsystem.writelog import live_stats, stats
from chatsystem.writelog.tasks import drain_waiting
from search.backends import get_backend


@pytest.fixture
def host(api: APIClient, settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> APIClient:
    """One host with workers, a live process and an index."""
    settings.SEARCH_INDEX_PATH = tmp_path / "index.sqlite3"
    monkeypatch.setattr(hosts, "_shows_up_at", 0.0)
    # Each look of a test counts as that of another process.
    monkeypatch.setattr(hosts, "PACE", 0.0)
    stats.beat_heart()
    live_stats.report("a process", live_stats.Streams(0, 0), {})
    get_backend().ping()
    return api


def told(api: APIClient) -> dict[str, str]:
    """Returns the status of readiness and its report on hosts."""
    ready = api.get("/health/ready")
    assert ready.status_code == 200
    return {"status": ready.json()["status"], "hosts": ready.json()["dependencies"].get("hosts", "")}


def differs_in(*names: str) -> dict[str, str]:
    return {"status": "degraded", "hosts": f"degraded: another host on this database differs in {', '.join(names)}"}


ALL_WELL = {"status": "ok", "hosts": ""}


def test_hosts_that_agree_are_ok(host: APIClient) -> None:
    assert told(host) == ALL_WELL
    assert told(host) == ALL_WELL
    assert HostConfiguration.objects.count() == 1


def test_a_host_whose_readiness_nobody_asks_shows_up_with_its_tasks(host: APIClient, settings: Any) -> None:
    first, settings.SECRET_KEY = settings.SECRET_KEY, "k" * 64
    drain_waiting.apply(args=[0])
    settings.SECRET_KEY = first

    assert told(host) == differs_in("SECRET_KEY")


def test_different_secret_keys_are_reported_by_both_hosts_until_one_is_gone(host: APIClient, settings: Any) -> None:
    # Given two hosts with different keys,
    first, second = settings.SECRET_KEY, "k" * 64
    assert told(host) == ALL_WELL
    settings.SECRET_KEY = second
    assert told(host) == differs_in("SECRET_KEY")
    settings.SECRET_KEY = first
    assert told(host) == differs_in("SECRET_KEY")
    # then the database does not contain the keys,
    kept = str(list(HostConfiguration.objects.values()))
    assert first not in kept
    assert second not in kept

    # and a host that has not shown up for a minute is forgotten, as after a planned change of the key.
    settings.SECRET_KEY = second
    gone = hosts.own().pk
    settings.SECRET_KEY = first
    HostConfiguration.objects.filter(pk=gone).update(seen_at=F("seen_at") - hosts.ALIVE)
    assert told(host) == ALL_WELL


def test_different_search_backends_are_reported(host: APIClient, settings: Any) -> None:
    pytest.importorskip("elasticsearch")
    assert told(host) == ALL_WELL

    settings.ELASTICSEARCH_URL = "http://127.0.0.1:1"
    settings.SEARCH_BACKEND = "search.backends.elasticsearch.ElasticsearchBackend"
    assert told(host) == differs_in("the search backend")

    settings.ELASTICSEARCH_INDEX_PREFIX = "others"
    HostConfiguration.objects.filter(search="search.backends.fts5.Fts5Backend").delete()
    assert told(host) == differs_in("the search backend")


def test_different_embedded_indexes_are_reported_and_a_moved_file_is_the_same_index(
    host: APIClient, settings: Any, tmp_path: Path
) -> None:
    assert told(host) == ALL_WELL
    moved = tmp_path / "moved.sqlite3"
    for file in tmp_path.glob("index.sqlite3*"):
        file.rename(tmp_path / file.name.replace("index", "moved"))

    settings.SEARCH_INDEX_PATH = moved
    assert told(host) == ALL_WELL

    settings.SEARCH_INDEX_PATH = tmp_path / "another.sqlite3"
    get_backend().ping()
    assert told(host) == differs_in("the embedded search index")


def test_the_check_names_the_difference_and_the_remedy_and_is_no_error(host: APIClient, settings: Any) -> None:
    told(host)
    assert check() == []

    settings.SECRET_KEY = "k" * 64
    [warning] = check()
    assert not warning.is_serious()
    assert warning.msg == "Another host on this database differs in SECRET_KEY."
    assert warning.hint == "Set the same SECRET_KEY on all hosts."


def test_a_host_that_was_never_used_has_no_index_and_the_check_makes_none(host: APIClient, settings: Any) -> None:
    told(host)
    settings.SEARCH_INDEX_PATH = settings.SEARCH_INDEX_PATH.with_name("none.sqlite3")

    assert check() == []
    assert not settings.SEARCH_INDEX_PATH.exists()


def test_a_database_without_tables_is_checked_too(host: APIClient) -> None:
    with connection.cursor() as cursor:
        cursor.execute("RENAME TABLE chatsystem_hostconfiguration TO away")
    try:
        assert check() == []
    finally:
        with connection.cursor() as cursor:
            cursor.execute("RENAME TABLE away TO chatsystem_hostconfiguration")


def check() -> list[CheckMessage]:
    found = run_checks(tags=["database"], databases=["default"])
    return [message for message in found if message.id == "chatsystem.W011"]


def test_a_host_shows_up_with_one_statement_every_ten_seconds(
    host: APIClient, monkeypatch: pytest.MonkeyPatch, django_assert_num_queries: Any
) -> None:
    hosts.show_up()
    monkeypatch.setattr(hosts, "PACE", 3600.0)
    with django_assert_num_queries(1):
        for _ in range(3):
            hosts.show_up()


def test_a_task_runs_while_the_database_is_down(
    host: APIClient,
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(connection.settings_dict, "PORT", "1")
        connection.close()

        hosts.show_up_with_a_task()
