"""What search needs of the machine. Documented in docs/search.md."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from importlib.util import find_spec
from urllib.parse import urlsplit

from django.conf import settings
from django.core.checks import CheckMessage, Error, register


@register
def fts5_is_there(**kwargs: object) -> list[CheckMessage]:
    if settings.SEARCH_BACKEND != "search.backends.fts5.Fts5Backend":
        return []
    try:
        with closing(sqlite3.connect(":memory:")) as connection:
            connection.execute("CREATE VIRTUAL TABLE probe USING fts5 (terms)")
    except sqlite3.OperationalError as error:
        return [
            Error(
                f"This Python's SQLite {sqlite3.sqlite_version} has no full-text search: {error}.",
                hint="Use a Python whose SQLite has FTS5 (those of the distributions and of python.org do).",
                id="search.E001",
            )
        ]
    return []


@register
def elasticsearch_can_be_used(**kwargs: object) -> list[CheckMessage]:
    """Without asking the cluster: one that is away costs searches, and is no reason not to start."""
    if not settings.ELASTICSEARCH_URL:
        return []
    found: list[CheckMessage] = []
    if not all(_is_address(url) for url in settings.ELASTICSEARCH_URL.split(",")):
        # Not the URL itself: it may hold a password.
        found.append(
            Error(
                "ELASTICSEARCH_URL is not the address of an Elasticsearch.",
                hint="Set ELASTICSEARCH_URL=http://host:9200, https://user:password@host:9200, or several of them with "
                "commas between; leave it away to search in DATA_DIR.",
                id="search.E002",
            )
        )
    if not re.fullmatch(r"[a-z0-9][a-z0-9._-]{0,99}", settings.ELASTICSEARCH_INDEX_PREFIX):
        found.append(
            Error(
                f"ELASTICSEARCH_INDEX_PREFIX is {settings.ELASTICSEARCH_INDEX_PREFIX!r}, which names no index.",
                hint="Use small letters, digits, '.', '_' and '-', a letter or digit first.",
                id="search.E003",
            )
        )
    if not find_spec("django_elasticsearch_dsl"):
        found.append(
            Error(
                "ELASTICSEARCH_URL is set, but django-elasticsearch-dsl is not installed.",
                hint="Install all packages: .venv/bin/pip install -r requirements.txt",
                id="search.E004",
            )
        )
    return found


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in {"http", "https"} and bool(parts.hostname and parts.port)
    except ValueError:
        return False
