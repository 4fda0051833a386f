"""The data of the operations page, as plain JSON. Documented in docs/operations.md."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any, TypeVar

from django.core.cache import cache

from chatsystem.backoffice import job_runs
from chatsystem.cache import with_fallback
from chatsystem.search_interface import search
from chatsystem.writelog import live_stats, redis_guards, rollback_guard, stats, stream
from chatsystem.writelog.counts import last_reconcile
from chatsystem.writelog.models import DeadEvent
from chatsystem.writelog.redis_client import of_reachable

T = TypeVar("T")

logger = logging.getLogger(__name__)

#: Seconds for which the index's state is cached, because an engine counts its documents one by one.
INDEX_LIFETIME = 10


def snapshot() -> dict[str, Any]:
    """Returns all parts. A part is None while its source is down."""
    return {
        "log": _or_none(_log),
        "live": _or_none(_live),
        "database": _or_none(_database),
        "index": _or_none(_index),
        "reconcile": _reconcile(),
        # So that the plot shows the minutes before the page was opened, such as the start of an incident.
        "history": stats.samples(),
        "jobs": _or_none(_jobs),
    }


def _or_none(read: Callable[[], T]) -> T | None:
    try:
        return read()
    except Exception as error:  # The page must still show the other parts.
        logger.warning("a part of the operations page is missing: %s", type(error).__name__)
        return None


def _log() -> dict[str, Any]:
    return {
        "seconds": stats.backlog().seconds,
        "waiting": stream.lengths(),
        "halted": of_reachable(rollback_guard.halted),
        "superseded": of_reachable(redis_guards.superseded),
        "totals": stats.sample(),
        "workers": _workers(),
    }


def _workers() -> bool:
    try:
        stats.expect_workers()
    except stats.WorkersSilent:
        return False
    return True


def _live() -> dict[str, int]:
    found = live_stats.processes().values()
    return {
        "processes": len(found),
        "streams": sum(each.open for each in found),
        "bytes": sum(each.backlog for each in found),
    }


def _database() -> dict[str, Any]:
    lag = search().lag()
    return {"dead": DeadEvent.objects.count(), "outbox_entries": lag.entries, "outbox_seconds": lag.seconds}


def _index() -> dict[str, Any]:
    state = with_fallback(lambda: cache.get("backoffice:index"), None)
    if state is None:
        state = dict(search().index_state())
        with_fallback(lambda: cache.set("backoffice:index", state, INDEX_LIFETIME), None)
    return state


def _reconcile() -> dict[str, Any] | None:
    found = last_reconcile()
    if found is None:
        return None
    now = time.time()
    drift_seconds = None if found.drifted_at is None else now - found.drifted_at
    return {"seconds": now - found.at, "drifts": found.drifts, "drift_seconds": drift_seconds}


def _jobs() -> dict[str, Any]:
    return {job.name: job_runs.last(job) for job in job_runs.all_jobs()}
