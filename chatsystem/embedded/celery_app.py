"""The Celery application whose pool processes end with the worker: a killed worker must not leave drains behind."""

from __future__ import annotations

import os
import signal

from celery.signals import worker_init, worker_process_init

from chatsystem.celery import app
from chatsystem.embedded.tied import end_with_parent

__all__ = ["app"]

_worker = 0


@worker_init.connect
def remember_worker(**_: object) -> None:
    global _worker
    _worker = os.getpid()


@worker_process_init.connect
def tie_pool_process(**_: object) -> None:
    end_with_parent(signal.SIGKILL, parent=_worker)
