"""System checks: what is wrong with the settings, and what to type. Documented in docs/operations.md.

`manage.py check` needs no running service. Those that ask one run where Django asks databases: with
`manage.py check --database default`, and at the beginning of `migrate`.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, Warning, register

from chatsystem.database import MYSQL, SQLITE
from chatsystem.writelog import log

REDIS_SCHEMES = {"redis", "rediss", "unix"}
MIN_SECRET_KEY = 50


@register(Tags.security, deploy=True)
def admin_key_is_set(**kwargs: object) -> list[CheckMessage]:
    if settings.ADMIN_API_KEY:
        return []
    return [
        Warning(
            "ADMIN_API_KEY is empty: anyone may create and list applications, and search the messages of all of them.",
            hint="Set it: ADMIN_API_KEY=$(python -c 'import secrets; print(secrets.token_urlsafe(32))')",
            id="chatsystem.W001",
        )
    ]


@register(Tags.security, deploy=True)
def secret_key_is_long(**kwargs: object) -> list[CheckMessage]:
    if len(settings.SECRET_KEY) >= MIN_SECRET_KEY:
        return []
    return [
        Error(
            f"SECRET_KEY has {len(settings.SECRET_KEY)} characters: sessions of the admin could be forged.",
            hint=f"Set one of {MIN_SECRET_KEY} or more: "
            "SECRET_KEY=$(python -c 'import secrets; print(secrets.token_urlsafe(64))')",
            id="chatsystem.E001",
        )
    ]


@register
def database_is_known(**kwargs: object) -> list[CheckMessage]:
    engine = settings.DATABASES["default"]["ENGINE"]
    if engine in (MYSQL, SQLITE):
        return []
    return [
        Error(
            f"DATABASE_URL names the engine {engine}: the write log's locks are made for SQLite and MySQL.",
            hint="Set DATABASE_URL=mysql://user:password@host:3306/name, or sqlite:////path/to/file; "
            "leave it away for SQLite in DATA_DIR.",
            id="chatsystem.E002",
        )
    ]


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
        hazards = log.hazards()
    except log.LogUnavailable:
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
