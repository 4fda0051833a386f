from __future__ import annotations

import sys

from celery import Celery
from celery.signals import task_prerun
from django.db import close_old_connections

app = Celery("reference")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks(["bench.reference"])

# Worker processes keep their connections, as in the product. By default Celery opens a new one for each task, which
# costs more than saving.
app.conf.CELERY_DB_REUSE_MAX = sys.maxsize
task_prerun.connect(lambda **kwargs: close_old_connections(), weak=False)
