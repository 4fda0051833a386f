"""Checks that this Python can search. Documented in docs/search.md."""

from __future__ import annotations

import sqlite3
from contextlib import closing

from django.conf import settings
from django.core.checks import CheckMessage, Error, register


@register
def check_fts5(**kwargs: object) -> list[CheckMessage]:
    if settings.SEARCH_BACKEND != "search.backends.fts5.Fts5Backend":
        return []
    try:
        with closing(sqlite3.connect(":memory:")) as connection:
            connection.execute("CREATE VIRTUAL TABLE probe USING fts5 (terms)")
    except sqlite3.OperationalError as error:
        return [
            Error(
                f"This Python's SQLite {sqlite3.sqlite_version} has no full-text search: {error}.",
                hint="Use a Python whose SQLite has FTS5, such as that of a Linux distribution or of python.org.",
                id="search.E001",
            )
        ]
    return []
