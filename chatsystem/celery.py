"""The Celery application. Messages in its queue are hints: the write log is the truth (docs/write-log.md)."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import Any

from celery import Celery
from celery.app.amqp import AMQP
from celery.signals import worker_process_init, worker_ready
from kombu import Connection

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "chatsystem.settings")

#: How much a worker stands back where it shares a machine with the web processes (nice(2)). Those who are kept waiting
#: by a request are people; a drain that comes later stores more at once, for less.
NICENESS = 10


class PromptConnection(Connection):
    """Knocks every second. kombu waits 2 s longer after each try, up to 30 s, also when Redis is back."""

    def ensure_connection(self, *args: Any, **options: Any) -> Connection:  # type: ignore[override]
        return super().ensure_connection(*args, **{"interval_start": 1, "interval_step": 0, **options})

    def maybe_close_channel(self, channel: Any) -> None:
        # A channel that is closed after its connection puts back what was not acknowledged, and kombu knows no address
        # for that any more. The worker would end, and be away for the seconds of a start; the hints can be lost.
        with suppress(AttributeError):
            super().maybe_close_channel(channel)


class PromptAMQP(AMQP):
    Connection = PromptConnection


app = Celery("chatsystem", amqp=PromptAMQP)
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()


@worker_process_init.connect
@worker_ready.connect
def stand_back(**kwargs: object) -> None:
    # Not before it has started: while it starts, nothing is stored.
    os.setpriority(os.PRIO_PROCESS, 0, NICENESS)
