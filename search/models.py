"""What search keeps in the database. Documented in docs/search.md."""

from __future__ import annotations

from django.db import models


class OutboxEntry(models.Model):
    """Messages that one drain stored and that the index does not hold yet. Written in the drain's own transaction."""

    #: `[[chat id, [number, …]], …]`: the natural key, which is known before the database has given the rows their ids.
    messages = models.JSONField()
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        verbose_name_plural = "outbox entries"

    def __str__(self) -> str:
        return f"outbox entry {self.pk}"
