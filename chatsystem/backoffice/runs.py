"""The runs of jobs: one of each job at a time, with its progress and outcome in the cache.

Nothing that is right or wrong rests on it: every job is safe beside itself, so a cache that forgets costs work.
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

from chatsystem.cache import asked
from chatsystem.jobs import Job

logger = logging.getLogger(__name__)

WAITING, RUNNING, DONE, FAILED, LOST = "waiting", "running", "done", "failed", "lost"

#: Seconds that a run is believed to be under way without a sign of it.
LEASE = 60
#: Seconds between two signs.
SIGN = 0.5
#: Seconds for which the outcome of the last run is told.
KEPT = 7 * 24 * 3600


@dataclass(frozen=True, slots=True)
class Run:
    id: str
    by: str
    began_at: float
    status: str = WAITING
    done: int = 0
    total: int | None = None
    told: str = ""
    ended_at: float | None = None


def all_jobs() -> list[Job]:
    return [import_string(name) for name in settings.JOBS]


def job_named(name: str) -> Job | None:
    return next((job for job in all_jobs() if job.name == name), None)


def reserve(job: Job, by: str) -> Run | None:
    """A run of the job, still to be carried out; None while there is another one. Raises what the cache does."""
    run = Run(uuid.uuid4().hex, by, time.time())
    if not cache.add(_lease(job), run.id, LEASE):
        return None
    cache.set(_key(job), run, KEPT)
    return run


def give_up(job: Job) -> None:
    asked(lambda: cache.delete_many([_lease(job), _key(job)]), None)


def carry_out(job: Job, run_id: str) -> None:
    """Does nothing for a run that has waited beyond its lease, or whose message came twice."""
    run: Run | None = cache.get(_key(job))
    if run is None or run.id != run_id or run.status != WAITING or not _is_ours(job, run):
        return
    progress = Reported(job, replace(run, status=RUNNING))
    progress.tell()
    try:
        told, status = job.run(progress), DONE
    except Exception as error:  # whatever it is, the person who waits for it is to be told
        logger.exception("the job %s failed", job.name)
        told, status = f"{type(error).__name__}: {error}", FAILED
    progress.run = replace(progress.current, status=status, told=told, ended_at=time.time())
    progress.tell()
    asked(lambda: cache.delete(_lease(job)), None)


class Reported:
    """The progress of a run, told in the cache every now and then."""

    total: int | None = None

    def __init__(self, job: Job, run: Run) -> None:
        self.job = job
        self.run = run
        self.done = 0
        self.told_at = 0.0

    def __call__(self, step: int) -> None:
        first = not self.done
        self.done += step
        if first or time.monotonic() - self.told_at > SIGN:
            self.tell()

    @property
    def current(self) -> Run:
        return replace(self.run, done=self.done, total=self.total)

    def tell(self) -> None:
        self.told_at = time.monotonic()
        # Who was silent beyond its lease may have been followed by another, whose words these would overwrite.
        if asked(lambda: _is_ours(self.job, self.run), False):
            asked(lambda: cache.set(_key(self.job), self.current, KEPT), None)
            asked(lambda: cache.touch(_lease(self.job), LEASE), None)


def last(job: Job) -> dict[str, Any] | None:
    """The job's last run, as it is now."""
    run: Run | None = cache.get(_key(job))
    if run is None:
        return None
    if run.status in (WAITING, RUNNING) and not _is_ours(job, run):
        # Read again: it may have ended between the two questions.
        run = cache.get(_key(job), run)
        if run.status in (WAITING, RUNNING):
            run = replace(run, status=LOST)
    return asdict(run)


def _is_ours(job: Job, run: Run) -> bool:
    return bool(cache.get(_lease(job)) == run.id)


def _lease(job: Job) -> str:
    return f"job:{job.name}:lease"


def _key(job: Job) -> str:
    return f"job:{job.name}:run"
