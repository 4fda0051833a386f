"""System checks of what the write log rests on. Documented in docs/operations.md.

Those that ask a service run where Django asks databases: with `manage.py check --database default`, and at the
beginning of `migrate`.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, Warning, register
from django.db import DatabaseError

from chatsystem.writelog import behind, vitals
from chatsystem.writelog.state import LogUnavailable

REDIS_SCHEMES = {"redis", "rediss", "unix"}


@register
def redis_url_is_one(**kwargs: object) -> list[CheckMessage]:
    # Not the URL itself: it may hold a password.
    url = urlsplit(settings.REDIS_URL)
    if url.scheme in REDIS_SCHEMES and (url.path if url.scheme == "unix" else url.hostname):
        return []
    return [
        Error(
            "REDIS_URL is not the address of a Redis.",
            hint="Set REDIS_URL=redis://host:6379/0, rediss://host:6379/0 (TLS) or unix:///path/to/socket?db=0.",
            id="chatsystem.E003",
        )
    ]


@register(Tags.database)
def state_redis_keeps_what_it_acknowledges(databases: object = None, **kwargs: object) -> list[CheckMessage]:
    if not databases:
        return []
    try:
        hazards = vitals.hazards()
    except LogUnavailable:
        # No error: the database can be migrated while Redis is still to start.
        return [
            Warning(
                "The state Redis does not answer.",
                hint="Start it, or correct REDIS_URL.",
                id="chatsystem.W002",
            )
        ]
    return [
        Error(
            f"The state Redis can lose what it acknowledged: {hazard}.",
            hint="In its configuration: appendonly yes, appendfsync always, maxmemory-policy noeviction.",
            id="chatsystem.E004",
        )
        for hazard in hazards
    ]


@register(Tags.database)
def broker_is_not_full_with_the_state_redis(databases: object = None, **kwargs: object) -> list[CheckMessage]:
    if not databases or _server(settings.CELERY_BROKER_URL) != _server(settings.REDIS_URL):
        return []
    try:
        bounded = vitals.max_memory()
    except LogUnavailable:
        return []  # W002 tells.
    if not bounded:
        return []
    return [
        Warning(
            "The state Redis has a maxmemory and is the broker too: once it is full, no worker is told to empty it.",
            hint="Set CELERY_BROKER_URL and CACHE_URL to another Redis.",
            id="chatsystem.W003",
        )
    ]


def _server(url: str) -> str:
    """What tells one Redis from another in its URL, however that is spelt: host and port, or the socket's path."""
    parts = urlsplit(url)
    return f"{parts.hostname}:{parts.port or 6379}" if parts.hostname else parts.path


@register(Tags.database)
def database_is_not_behind(databases: object = None, **kwargs: object) -> list[CheckMessage]:
    if not databases:
        return []
    try:
        partitions = behind.look()
    except (LogUnavailable, DatabaseError):
        return []  # W002 names a Redis that is away; a database without tables is still to be migrated.
    if not partitions:
        return []
    return [
        Error(
            f"The database is older than what the write log knows to be stored, in {len(partitions)} partitions: "
            "a restored copy, or another database.",
            hint="Bring it forward (binary log), or name the right DATABASE_URL. If what it lost is to stay lost: "
            "`manage.py accept_database` (docs/runbook.md).",
            id="chatsystem.E005",
        )
    ]
