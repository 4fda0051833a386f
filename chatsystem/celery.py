"""The Celery application. Messages in its queue are hints: the write log is the truth (docs/write-log.md)."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import Any

from celery import Celery
from celery.app.amqp import AMQP
from celery.signals import beat_init, worker_init, worker_process_init, worker_ready
from django.conf import settings
from kombu import Connection

from chatsystem.conf.environment import OURS

# Overrides the value that the shell of another project may have exported.
os.environ["DJANGO_SETTINGS_MODULE"] = "chatsystem.settings"
# Reads the settings here, where a wrong one ends the process. Later, Celery would log a traceback and continue.
_ = settings.BROKER_URL
# Celery reads CELERY_… variables as command line options, and some of them override the settings.
for _name in [name for name in os.environ if name.startswith("CELERY_") and name not in OURS]:
    del os.environ[_name]

#: The nice value of workers, which may share a machine with the web processes. People wait for requests; a later drain
#: stores more events in one batch.
NICENESS = 10


class PromptConnection(Connection):
    """Reconnects every second. kombu would wait 2 s longer after each try, up to 30 s, even when Redis is back."""

    def ensure_connection(self, *args: Any, **options: Any) -> Connection:  # type: ignore[override]
        return super().ensure_connection(*args, **{"interval_start": 1, "interval_step": 0, **options})

    def maybe_close_channel(self, channel: Any) -> None:
        # A channel that closes after its connection returns unacknowledged messages, and kombu has lost the address for
        # that (AttributeError). The worker would end and take seconds to restart. The hints may be lost instead.
        with suppress(AttributeError):
            super().maybe_close_channel(channel)


class PromptAMQP(AMQP):
    Connection = PromptConnection


app = Celery("chatsystem", amqp=PromptAMQP)
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()


@worker_process_init.connect
@worker_ready.connect
def lower_priority(**kwargs: object) -> None:
    # Only once the worker has started: nothing is stored while it starts.
    os.setpriority(os.PRIO_PROCESS, 0, NICENESS)


@beat_init.connect
@worker_init.connect
def log_unreachable_services(**kwargs: object) -> None:
    from chatsystem.monitoring.reachable import tell_unreachable

    tell_unreachable()
