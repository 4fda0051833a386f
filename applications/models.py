"""An application: a tenant, identified by its token. Documented in docs/write-log.md."""

from __future__ import annotations

from django.db import models


class Application(models.Model):
    token = models.CharField(max_length=32, unique=True)
    name = models.CharField(max_length=255, db_index=True)
    chats_count = models.PositiveBigIntegerField(default=0)
    recount_due = models.BooleanField(default=False, db_index=True)
    created_at = models.DateTimeField(db_index=True)
    last_request_time = models.DateTimeField()

    def __str__(self) -> str:
        return self.name
