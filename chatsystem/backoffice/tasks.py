"""The Celery task that runs the jobs of the operations page."""

from __future__ import annotations

from celery import shared_task
from kombu.exceptions import OperationalError

from chatsystem.backoffice import job_runs
from chatsystem.jobs import Job


@shared_task(name="backoffice.run_job")
def run_job(name: str, run_id: str) -> None:
    job = job_runs.job_named(name)
    if job is not None:
        job_runs.carry_out(job, run_id)


def start(job: Job, by: str) -> bool:
    """Queues the job. Returns False if it is already running. Raises what the cache and the broker raise."""
    run = job_runs.reserve(job, by)
    if run is None:
        return False
    try:
        run_job.delay(job.name, run.id)
    except OperationalError:
        job_runs.give_up(job)
        raise
    return True
