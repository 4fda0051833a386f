"""What the operations page shows, as plain JSON. Documented in docs/operations.md."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any, TypeVar

from django.core.cache import cache
from django.utils.module_loading import import_string

from chatsystem.backoffice import runs
from chatsystem.cache import asked
from chatsystem.writelog import history, log, vitals
from chatsystem.writelog.counts import last_reconcile
from chatsystem.writelog.models import DeadEvent

T = TypeVar("T")

logger = logging.getLogger(__name__)

#: Seconds for which the index's state is not asked for again, by whomever: an engine counts documents one by one.
INDEX_KEPT = 10


def snapshot() -> dict[str, Any]:
    """Each part is None while what it is asked of is away."""
    return {
        "log": _told(_log),
        "database": _told(_database),
        "index": _told(_index),
        "reconcile": _reconcile(),
        "history": history.samples(),
        "jobs": _told(_jobs),
    }


def _told(ask: Callable[[], T]) -> T | None:
    try:
        return ask()
    except Exception as error:  # whatever it is, the others still are to be shown
        logger.warning("the operations page lacks a part: %s", type(error).__name__)
        return None


def _log() -> dict[str, Any]:
    return {
        "seconds": vitals.backlog().seconds,
        "waiting": log.lengths(),
        "halted": log.halted(),
        "totals": history.sample(),
        "workers": _workers(),
    }


def _workers() -> bool:
    try:
        vitals.expect_workers()
    except vitals.WorkersSilent:
        return False
    return True


def _database() -> dict[str, Any]:
    # Named by string, like all wiring: imports run from the search room to this one.
    lag = import_string("search.outbox.lag")()
    return {"dead": DeadEvent.objects.count(), "outbox_entries": lag.entries, "outbox_seconds": lag.seconds}


def _index() -> dict[str, Any]:
    kept = asked(lambda: cache.get("backoffice:index"), None)
    if kept is None:
        kept = asdict(import_string("search.backends.get_backend")().state())
        asked(lambda: cache.set("backoffice:index", kept, INDEX_KEPT), None)
    return kept


def _reconcile() -> dict[str, Any] | None:
    found = last_reconcile()
    if found is None:
        return None
    now = time.time()
    drift_seconds = None if found.drifted_at is None else now - found.drifted_at
    return {"seconds": now - found.at, "drifts": found.drifts, "drift_seconds": drift_seconds}


def _jobs() -> dict[str, Any]:
    return {job.name: runs.last(job) for job in runs.all_jobs()}
