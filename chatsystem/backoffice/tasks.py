"""Celery's door into the jobs that a person starts."""

from __future__ import annotations

from celery import shared_task
from kombu.exceptions import OperationalError

from chatsystem.backoffice import runs
from chatsystem.jobs import Job


@shared_task(name="backoffice.run_job")
def run_job(name: str, run_id: str) -> None:
    job = runs.job_named(name)
    if job is not None:
        runs.carry_out(job, run_id)


def start(job: Job, by: str) -> bool:
    """Has a worker do it; False when it is under way already. Raises what the cache and the broker do."""
    run = runs.reserve(job, by)
    if run is None:
        return False
    try:
        run_job.delay(job.name, run.id)
    except OperationalError:
        runs.give_up(job)
        raise
    return True
