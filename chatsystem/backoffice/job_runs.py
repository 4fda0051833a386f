"""Runs of jobs: one of each job at a time, with progress and outcome in the cache.

No correctness depends on the cache. Every job may safely run twice at once, so a lost cache only costs work.
"""

from __future__ import annotations

import logging
import time
import uuid
from dataclasses import asdict, dataclass, replace
from typing import Any

from django.conf import settings
from django.core.cache import cache
from django.utils.module_loading import import_string

from chatsystem.cache import with_fallback
from chatsystem.jobs import Job, job_stepped

logger = logging.getLogger(__name__)

WAITING, RUNNING, DONE, FAILED, LOST = "waiting", "running", "done", "failed", "lost"

#: Seconds without a heartbeat after which a run counts as lost.
LEASE = 60
#: Seconds between two heartbeats.
HEARTBEAT = 0.5
#: Seconds for which the outcome of the last run is kept.
LIFETIME = 7 * 24 * 3600


@dataclass(frozen=True, slots=True)
class Run:
    id: str
    by: str
    began_at: float
    status: str = WAITING
    done: int = 0
    total: int | None = None
    outcome: str = ""
    ended_at: float | None = None


def all_jobs() -> list[Job]:
    return [import_string(name) for name in settings.JOBS]


def job_named(name: str) -> Job | None:
    return next((job for job in all_jobs() if job.name == name), None)


def reserve(job: Job, by: str) -> Run | None:
    """Returns a new run of the job, or None while another one is active. Raises what the cache raises."""
    run = Run(uuid.uuid4().hex, by, time.time())
    if not cache.add(_lease(job), run.id, LEASE):
        return None
    cache.set(_key(job), run, LIFETIME)
    return run


def give_up(job: Job) -> None:
    with_fallback(lambda: cache.delete_many([_lease(job), _key(job)]), None)


def carry_out(job: Job, run_id: str) -> None:
    """Runs the job. Does nothing if the run's lease has expired, or if its message was delivered twice."""
    run: Run | None = cache.get(_key(job))
    if run is None or run.id != run_id or run.status != WAITING or not _holds_lease(job, run):
        return
    progress = RecordedProgress(job, replace(run, status=RUNNING))
    progress.record()
    try:
        outcome, status = job.run(progress), DONE
    except Exception as error:  # The person who waits for the job must see any failure.
        logger.exception("the job %s failed", job.name)
        outcome, status = f"{type(error).__name__}: {error}", FAILED
    progress.run = replace(progress.current, status=status, outcome=outcome, ended_at=time.time())
    progress.record()
    with_fallback(lambda: cache.delete(_lease(job)), None)


class RecordedProgress:
    """Records the progress of a run in the cache, at intervals."""

    total: int | None = None

    def __init__(self, job: Job, run: Run) -> None:
        self.job = job
        self.run = run
        self.done = 0
        self.recorded_at = 0.0

    def __call__(self, step: int) -> None:
        first = not self.done
        self.done += step
        if first or time.monotonic() - self.recorded_at > HEARTBEAT:
            self.record()
            # A failing receiver must not stop the job.
            job_stepped.send_robust(sender=RecordedProgress)

    @property
    def current(self) -> Run:
        return replace(self.run, done=self.done, total=self.total)

    def record(self) -> None:
        self.recorded_at = time.monotonic()
        # If the lease has expired, another run may have started. Its record must not be overwritten.
        if with_fallback(lambda: _holds_lease(self.job, self.run), False):
            with_fallback(lambda: cache.set(_key(self.job), self.current, LIFETIME), None)
            with_fallback(lambda: cache.touch(_lease(self.job), LEASE), None)


def last(job: Job) -> dict[str, Any] | None:
    """Returns the job's last run in its current state."""
    run: Run | None = cache.get(_key(job))
    if run is None:
        return None
    if run.status in (WAITING, RUNNING) and not _holds_lease(job, run):
        # Read again: the run may have ended between the two reads.
        run = cache.get(_key(job), run)
        if run.status in (WAITING, RUNNING):
            run = replace(run, status=LOST)
    return asdict(run)


def _holds_lease(job: Job, run: Run) -> bool:
    return bool(cache.get(_lease(job)) == run.id)


def _lease(job: Job) -> str:
    return f"job:{job.name}:lease"


def _key(job: Job) -> str:
    return f"job:{job.name}:run"
