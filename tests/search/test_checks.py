from __future__ import annotations

import sqlite3

import pytest
from django.apps import apps
from pytest_django import Settings

from search import checks


def test_this_machine_has_fts5() -> None:
    assert checks.fts5_is_there() == []


def test_a_sqlite_without_fts5_is_an_error_that_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    class WithoutFts5:
        def execute(self, statement: str) -> None:
            raise sqlite3.OperationalError("no such module: fts5")

        def close(self) -> None:
            pass

    monkeypatch.setattr(checks.sqlite3, "connect", lambda path: WithoutFts5())
    (error,) = checks.fts5_is_there()
    assert error.id == "search.E001"
    assert error.hint
    settings.SEARCH_BACKEND = "another.Backend"
    assert checks.fts5_is_there() == []


@pytest.mark.parametrize(
    "url", ["http://host:9200", "https://user:password@host:9243/path", "http://one:9200,http://two:9200", ""]
)
def test_an_address_of_a_cluster_is_accepted(settings: Settings, url: str) -> None:
    settings.ELASTICSEARCH_URL = url
    assert checks.elasticsearch_can_be_used() == []


@pytest.mark.parametrize(
    "url",
    ["host:9200", "http://host", "redis://:secret@host:9200", "http://:9200", "http://host:x", "http://a:1,", "//a:1"],
)
def test_a_wrong_address_of_a_cluster_is_an_error_that_keeps_the_password(settings: Settings, url: str) -> None:
    settings.ELASTICSEARCH_URL = url
    (error,) = checks.elasticsearch_can_be_used()
    assert error.id == "search.E002"
    assert "http://host:9200" in error.hint
    assert "secret" not in error.msg


@pytest.mark.parametrize("prefix", ["", "Messages", "_messages", "a b", "a,b", "a*", "é"])
def test_a_prefix_that_names_no_index_is_an_error(settings: Settings, prefix: str) -> None:
    settings.ELASTICSEARCH_URL = "http://host:9200"
    settings.ELASTICSEARCH_INDEX_PREFIX = prefix
    (error,) = checks.elasticsearch_can_be_used()
    assert error.id == "search.E003"


def test_a_missing_package_is_an_error_that_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    settings.ELASTICSEARCH_URL = "http://host:9200"
    monkeypatch.setattr(checks, "find_spec", lambda name: None)
    (error,) = checks.elasticsearch_can_be_used()
    assert error.id == "search.E004"
    assert "pip install -r requirements.txt" in error.hint


def test_nothing_is_indexed_within_a_request() -> None:
    assert not apps.is_installed("django_elasticsearch_dsl"), "its signals would ask the cluster at every save"
