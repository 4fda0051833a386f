"""System checks for settings that work but are not safe. Documented in docs/settings.md.

A setting that cannot work is refused while the settings are read (startup.py).
"""

from __future__ import annotations

from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, Warning, register

MIN_SECRET_KEY = 50
#: Characters: 128 random bits in hexadecimal, the same as a token.
MIN_ADMIN_KEY = 32


@register(Tags.security, deploy=True)
def admin_key_is_set(**kwargs: object) -> list[CheckMessage]:
    if settings.ADMIN_API_KEY:
        return []
    return [
        Warning(
            "ADMIN_API_KEY is empty: anyone may create and list applications, and search all messages.",
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
            f"A key in ADMIN_API_KEY has {shortest} characters and could be guessed.",
            hint=f"Set a key of at least {MIN_ADMIN_KEY}; during a rotation, append the old key after a comma: "
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
            f"SECRET_KEY has {len(settings.SECRET_KEY)} characters, so admin sessions could be forged.",
            hint=f"Set a key of at least {MIN_SECRET_KEY}: "
            "SECRET_KEY=$(python -c 'import secrets; print(secrets.token_urlsafe(64))')",
            id="chatsystem.E001",
        )
    ]
