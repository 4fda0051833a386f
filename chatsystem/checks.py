"""System checks of the settings: what is wrong, and what to type. Documented in docs/operations.md."""

from __future__ import annotations

from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, Warning, register

from chatsystem.database import MYSQL, SQLITE

MIN_SECRET_KEY = 50
#: Characters: 128 random bits in hexadecimal, as a token has.
MIN_ADMIN_KEY = 32


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
def admin_keys_are_long(**kwargs: object) -> list[CheckMessage]:
    shortest = min(len(key.strip()) for key in settings.ADMIN_API_KEY.split(","))
    if not settings.ADMIN_API_KEY or shortest >= MIN_ADMIN_KEY:
        return []
    return [
        Error(
            f"A key of ADMIN_API_KEY has {shortest} characters: it could be guessed.",
            hint=f"Set one of {MIN_ADMIN_KEY} or more; behind it, after a comma, may be one that is to be replaced: "
            "ADMIN_API_KEY=$(python -c 'import secrets; print(secrets.token_urlsafe(32))')",
            id="chatsystem.E006",
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
