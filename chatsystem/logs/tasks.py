"""Carries a request's id to the tasks that it asks for, and leaves Celery's lines to LOGGING.

The id is a header of Celery's message: a worker that does not know it runs the task all the same, and so does one that
misses it. Documented in docs/operations.md.
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
    # Without one, that of the task before is not to stay.
    request_id.set(task.request.get(HEADER) or "")


@celeryd_init.connect
def log_warnings(**kwargs: object) -> None:
    # Celery does so itself, but after the first of its own.
    logging.captureWarnings(True)


@setup_logging.connect
def leave_as_it_is(**kwargs: object) -> None:
    """Django has set it up by LOGGING. Where somebody listens to this signal, Celery does not."""
