"""The Celery application of `make run`. Its pool ends with its worker and replaces a lost process within a second."""

from __future__ import annotations

import os
import signal
from typing import Any

from celery.signals import worker_init, worker_process_init, worker_ready

from chatsystem.celery import app
from chatsystem.embedded.parent_death import end_with_parent

__all__ = ["app"]

#: Seconds between two checks of the pool. Celery checks when it notices a death, which may be before the kernel reports
#: it, and then only after another 5 s.
POOL_INTERVAL = 1.0

_worker = 0


@worker_init.connect
def remember_worker(**_: object) -> None:
    global _worker
    _worker = os.getpid()


@worker_process_init.connect
def end_pool_with_worker(**_: object) -> None:
    """Ends the pool with its worker. Drains of a killed worker would otherwise run beside those of the next one."""
    end_with_parent(signal.SIGKILL, parent=_worker)


@worker_ready.connect
def maintain_pool(sender: Any, **_: object) -> None:
    sender.hub.call_repeatedly(POOL_INTERVAL, sender.pool.maintain_pool)
