"""The Celery application with a pool that ends with its worker and is complete again a second after a loss."""

from __future__ import annotations

import os
import signal
from typing import Any

from celery.signals import worker_init, worker_process_init, worker_ready

from chatsystem.celery import app
from chatsystem.embedded.tied import end_with_parent

__all__ = ["app"]

#: Seconds between two looks at the pool. Celery looks when it hears of a death, which can be a moment before the kernel
#: reports it, and then again after 5 s only.
POOL_LOOK = 1.0

_worker = 0


@worker_init.connect
def remember_worker(**_: object) -> None:
    global _worker
    _worker = os.getpid()


@worker_process_init.connect
def tie_pool_process(**_: object) -> None:
    """A worker that was killed must not leave drains behind that nobody counts."""
    end_with_parent(signal.SIGKILL, parent=_worker)


@worker_ready.connect
def look_after_pool(sender: Any, **_: object) -> None:
    sender.hub.call_repeatedly(POOL_LOOK, sender.pool.maintain_pool)
