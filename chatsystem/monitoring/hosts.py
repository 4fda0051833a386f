"""Compares the settings that all hosts on one database must share. Documented in docs/howto/several-hosts.md.

Each process that answers readiness or runs tasks keeps a row with its configuration alive. Rows expire: after
SECRET_KEY is changed on purpose, the old one is forgotten a minute after its last process has ended.
"""

from __future__ import annotations

import hashlib
import time
from contextlib import suppress
from datetime import timedelta
from typing import Any

from celery.signals import task_prerun
from django.conf import settings
from django.db import DatabaseError, IntegrityError, InterfaceError, connection
from django.db.models.functions import Now
from django.utils.crypto import salted_hmac

from chatsystem.models import HostConfiguration
from chatsystem.search_interface import search

#: The lifetime of a row. Many times PACE, because an idle worker runs few tasks.
ALIVE = timedelta(seconds=60)
#: Seconds between two heartbeats of a process.
PACE = 10.0

#: Each setting to compare: its name for people, and the remedy.
COMMON = {
    "secret_key": ("SECRET_KEY", "Set the same SECRET_KEY on all hosts."),
    "search": (
        "the search backend",
        "Set the same ELASTICSEARCH_URL and ELASTICSEARCH_INDEX_PREFIX on all hosts: each searches in its own index.",
    ),
    "search_index": (
        "the embedded search index",
        "Set ELASTICSEARCH_URL on all hosts: an embedded index belongs to one host, and each holds a part.",
    ),
}

_shows_up_at = 0.0


def own() -> HostConfiguration:
    """Returns the configuration of this process."""
    backend = settings.SEARCH_BACKEND
    if settings.ELASTICSEARCH_URL:
        backend += f" {settings.ELASTICSEARCH_INDEX_PREFIX}"
    common = {
        "secret_key": salted_hmac("chatsystem.hosts", "which key a host has", algorithm="sha256").hexdigest()[:16],
        "search": backend,
        "search_index": search().identity(),
    }
    id = hashlib.sha256("\n".join(common.values()).encode()).hexdigest()[:16]
    return HostConfiguration(id=id, **common)


def show_up() -> None:
    """Keeps this process's row alive. Does nothing if it did so within PACE."""
    global _shows_up_at
    # An SQLite file has one host. Its one write lock is for drains.
    if connection.vendor != "mysql" or time.monotonic() < _shows_up_at:
        return
    _shows_up_at = time.monotonic() + PACE
    mine = own()
    if HostConfiguration.objects.filter(pk=mine.pk).update(seen_at=Now()):
        return
    HostConfiguration.objects.filter(seen_at__lt=Now() - ALIVE).delete()
    mine.seen_at = Now()
    # Another process of this host may have inserted the row first.
    with suppress(IntegrityError):
        mine.save(force_insert=True)


def differences() -> list[str]:
    """Returns the keys of COMMON in which this process differs from another live one."""
    mine = own()
    others = list(HostConfiguration.objects.filter(seen_at__gt=Now() - ALIVE).exclude(pk=mine.pk))
    return [name for name in COMMON if any(_differ(getattr(mine, name), getattr(other, name)) for other in others)]


def _differ(mine: str, other: str) -> bool:
    return bool(mine and other and mine != other)


@task_prerun.connect
def show_up_with_a_task(**kwargs: Any) -> None:
    """Keeps the row alive with each task. Other checks report a database that is down."""
    with suppress(DatabaseError, InterfaceError):
        show_up()
