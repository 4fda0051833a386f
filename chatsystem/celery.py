"""The Celery application. Messages in its queue are hints: the write log is the truth (docs/write-log.md)."""

import os

from celery import Celery
from django.conf import settings

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "chatsystem.settings")
# Celery takes this variable before any setting, and knows no `unix://`.
os.environ["CELERY_BROKER_URL"] = settings.CELERY_BROKER_URL

app = Celery("chatsystem")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
