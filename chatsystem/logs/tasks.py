"""Passes a request's id on to its tasks, and leaves Celery's logging to LOGGING. Documented in docs/logs.md.

The id is an optional header of Celery's message, so older and newer workers understand each other.
"""

from __future__ import annotations

import logging
from typing import Any

from celery import Task
from celery.signals import before_task_publish, celeryd_init, setup_logging, task_prerun

from chatsystem.logs.request_id import request_id

HEADER = "request_id"


@before_task_publish.connect
def send_along(headers: dict[str, Any], **kwargs: object) -> None:
    if name := request_id.get():
        headers[HEADER] = name


@task_prerun.connect
def take_over(task: Task[Any, Any], **kwargs: object) -> None:
    # Set even when empty, or the id of the previous task would remain.
    request_id.set(task.request.get(HEADER) or "")


@celeryd_init.connect
def log_warnings(**kwargs: object) -> None:
    # Celery does this too, but after its first warnings.
    logging.captureWarnings(True)


@setup_logging.connect
def leave_as_it_is(**kwargs: object) -> None:
    """Keeps Django's logging configuration. Celery sets up its own unless this signal has a receiver."""
