from __future__ import annotations

import sqlite3

import pytest
from django.apps import apps
from pytest_django import Settings

from chatsystem.conf import addresses
from chatsystem.conf.startup import StartupError
from search import checks


def test_this_machine_has_fts5() -> None:
    assert checks.check_fts5() == []


def test_a_sqlite_without_fts5_is_an_error_that_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    class WithoutFts5:
        def execute(self, statement: str) -> None:
            raise sqlite3.OperationalError("no such module: fts5")

        def close(self) -> None:
            pass

    monkeypatch.setattr(checks.sqlite3, "connect", lambda path: WithoutFts5())
    (error,) = checks.check_fts5()
    assert error.id == "search.E001"
    assert error.hint
    settings.SEARCH_BACKEND = "another.Backend"
    assert checks.check_fts5() == []


def test_a_missing_package_is_told_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ELASTICSEARCH_URL", "http://host:9200")
    assert addresses.elasticsearch_url("ELASTICSEARCH_URL") == "http://host:9200"

    monkeypatch.setattr(addresses, "find_spec", lambda name: None)

    with pytest.raises(StartupError, match=r"pip install --require-hashes -r requirements/all\.lock"):
        addresses.elasticsearch_url("ELASTICSEARCH_URL")


def test_nothing_is_indexed_within_a_request() -> None:
    assert not apps.is_installed("django_elasticsearch_dsl"), "its signals would ask the cluster at every save"
