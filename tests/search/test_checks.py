from __future__ import annotations

import sqlite3

import pytest
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
