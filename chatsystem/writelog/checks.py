"""System checks of the write log's services. Documented in docs/redis.md.

They query Redis and the database, so they are tagged `database`: they run with `manage.py check --database default` and
at the start of `migrate`.
"""

from __future__ import annotations

from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, Warning, register
from django.db import DatabaseError

from chatsystem.conf import addresses
from chatsystem.writelog import ownership, rollback_guard, stats
from chatsystem.writelog.exceptions import LogUnavailable, NotPermitted
from chatsystem.writelog.models import Partition
from chatsystem.writelog.redis_client import groups, of_reachable


@register(Tags.database)
def state_redis_keeps_what_it_acknowledges(databases: object = None, **kwargs: object) -> list[CheckMessage]:
    if not databases:
        return []
    try:
        hazards = stats.hazards()
    except LogUnavailable:
        # Only a warning: the database can be migrated before Redis is started.
        return [
            Warning(
                "The state Redis does not answer.",
                hint="Start it, or correct REDIS_URL.",
                id="chatsystem.W002",
            )
        ]
    return [
        Error(
            f"The state Redis can lose what it acknowledged: {hazard.text}.",
            hint="In its configuration: appendonly yes, appendfsync always, maxmemory-policy noeviction.",
            id="chatsystem.E004",
        )
        if not hazard.remedy
        # Only a warning: a managed service may hide its configuration and be configured well.
        else Warning(
            f"The state Redis may lose what it acknowledged: {hazard.text}.",
            hint=hazard.remedy,
            id="chatsystem.W004",
        )
        for hazard in hazards
    ]


@register(Tags.database)
def state_redis_lets_us_write(databases: object = None, **kwargs: object) -> list[CheckMessage]:
    if not databases:
        return []
    try:
        for partitions in groups():
            stats.probe(partitions)
    except NotPermitted as missing:
        return [
            Warning(
                f"The state Redis accepts no write: {missing}.",
                hint="docs/redis.md lists the commands that the user needs (Managed services).",
                id="chatsystem.W005",
            )
        ]
    except LogUnavailable:
        return []  # W002 and readiness report it.
    return []


@register(Tags.database)
def broker_is_not_full_with_the_state_redis(databases: object = None, **kwargs: object) -> list[CheckMessage]:
    if not databases:
        return []
    if addresses.server_name(settings.BROKER_URL) not in map(
        addresses.server_name, addresses.servers(settings.REDIS_URL)
    ):
        return []
    try:
        is_limited = any(of_reachable(lambda partitions: [stats.is_memory_limited(partitions[0])]))
    except LogUnavailable:
        return []  # W002 reports it.
    if not is_limited:
        return []
    return [
        Warning(
            "The state Redis has a maxmemory and is the broker too: once it is full, no worker is told to drain it.",
            hint="Set CELERY_BROKER_URL and CACHE_URL to another Redis.",
            id="chatsystem.W003",
        )
    ]


@register(Tags.database)
def database_is_not_behind(databases: object = None, **kwargs: object) -> list[CheckMessage]:
    if not databases:
        return []
    try:
        partitions = of_reachable(rollback_guard.partitions_behind)
    except (LogUnavailable, DatabaseError):
        return []  # W002 reports a Redis that is down. A database without tables is not migrated yet.
    if not partitions:
        return []
    return [
        Error(
            f"The database is older than what it had stored, in {len(partitions)} partitions: "
            "a restored copy, or another database.",
            hint="Bring it forward (binary log) or correct DATABASE_URL. To accept the loss: "
            "`manage.py accept_database` (docs/runbook.md).",
            id="chatsystem.E005",
        )
    ]


@register(Tags.database)
def partitions_lie_where_redis_url_says(databases: object = None, **kwargs: object) -> list[CheckMessage]:
    if not databases:
        return []
    try:
        if not ownership.differs_from_layout(Partition.objects.all()):
            return []
    except DatabaseError:
        return []  # The database is down or not migrated yet.
    return [
        Error(
            "REDIS_URL names other servers than those that hold the partitions.",
            hint="Correct REDIS_URL, or move the partitions: `manage.py move_partitions --from FORMER_REDIS_URL`. "
            "If `make run` ran without REDIS_URL until now, start it so once more, and omit --from (docs/redis.md).",
            id="chatsystem.E007",
        )
    ]


@register(Tags.database)
def database_takes_events_from_this_redis(databases: object = None, **kwargs: object) -> list[CheckMessage]:
    if not databases:
        return []
    try:
        superseded = of_reachable(ownership.superseded)
    except (LogUnavailable, DatabaseError, KeyError):
        return []  # As above. KeyError: the tables exist, and a migration that was cut off has not added their rows.
    if not superseded:
        return []
    return [
        Warning(
            "The database takes events from another state Redis than REDIS_URL names. This one accepts no write.",
            hint="All hosts of one database need the same REDIS_URL. If the other Redis is gone for good, this one "
            "takes over 8 seconds after the workers have started (docs/runbook.md).",
            id="chatsystem.W006",
        )
    ]
