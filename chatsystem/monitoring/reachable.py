"""Probes the services that the environment names, and describes each that cannot be used in one sentence.

`make run`, gunicorn and the workers do so at startup. Documented in docs/operations.md, "When it does not start".
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress

import redis
from django.conf import settings
from django.db import connection

from chatsystem.conf import addresses
from chatsystem.conf.environment import given
from chatsystem.probes import Probes
from chatsystem.search_interface import search
from chatsystem.writelog.servers import servers_of

logger = logging.getLogger(__name__)

#: Seconds within which a service must answer.
PATIENCE = 5.0

#: Each setting that names a service: its kind, and the effect of its absence.
SERVICES = {
    "REDIS_URL": ("a Redis", "no write is accepted"),
    "DATABASE_URL": ("a database", "nothing is stored"),
    "CELERY_BROKER_URL": ("a Redis", "writes are accepted, and nothing is stored"),
    "CACHE_URL": ("a Redis", "nothing is cached, and no rate is limited"),
    "ELASTICSEARCH_URL": ("a cluster", "nothing is found"),
}


def unreachable() -> dict[str, str]:
    """Returns a sentence for each setting whose service cannot be used. Takes at most PATIENCE."""
    probes: dict[str, Callable[[], None]] = {
        "REDIS_URL": lambda: _ping(settings.REDIS_URL),
        # A lambda, because a connection belongs to the thread that opens it.
        "DATABASE_URL": lambda: connection.ensure_connection(),
        "CELERY_BROKER_URL": lambda: _ping(settings.BROKER_URL),
        "CACHE_URL": lambda: _ping(settings.CACHE_URL),
        "ELASTICSEARCH_URL": lambda: search().ping(),
    }
    answers = Probes().run({name: probe for name, probe in probes.items() if given(name)}, PATIENCE)
    return {name: _sentence(name, answer) for name, answer in answers.items() if isinstance(answer, Exception)}


def tell_unreachable() -> None:
    """Logs the sentences. The process starts anyway, and works when the services are back."""
    for sentence in unreachable().values():
        logger.warning("%s", sentence)


def _ping(url: str) -> None:
    servers = servers_of(url, timeout=PATIENCE / 2)
    try:
        for partitions in servers.groups():
            # A Redis that is loading its data will answer soon.
            with suppress(redis.BusyLoadingError):
                servers.client(partitions[0]).ping()
    finally:
        for client in servers.clients():
            client.connection_pool.disconnect()


def _sentence(name: str, error: Exception) -> str:
    what, without = SERVICES[name]
    if isinstance(error, TimeoutError):
        why = f"no answer within {PATIENCE:g} s"
    else:
        # A driver's message may span several lines.
        why = " ".join(" ".join(map(str, error.args)).split()).rstrip(".") or type(error).__name__
    for url in _urls(name):
        for secret in addresses.secrets_of(url):
            why = why.replace(secret, "…")
    return f"{name} names {what} that cannot be used, and without it {without} ({why}); start it, or correct {name}."


def _urls(name: str) -> list[str]:
    """Returns the URLs from the settings, which split at commas between addresses, not at one in a password."""
    return {
        "REDIS_URL": addresses.servers(settings.REDIS_URL),
        "DATABASE_URL": [given("DATABASE_URL")],
        "CACHE_URL": [settings.CACHE_URL],
        "CELERY_BROKER_URL": [settings.BROKER_URL],
        "ELASTICSEARCH_URL": settings.ELASTICSEARCH_URL.split(","),
    }[name]
