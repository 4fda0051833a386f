"""The outbox. Documented in docs/search.md."""

from __future__ import annotations

from django.db import models


class OutboxEntry(models.Model):
    """Messages of one application that a drain has stored and that are not indexed yet.

    Written in the drain's own transaction.
    """

    #: The application's id, for the round-robin of the indexer. 0 in entries that are older than this field.
    application = models.PositiveBigIntegerField(db_default=0)
    #: `[[chat id, [number, …]], …]`: the natural keys, which are known before the database assigns ids.
    messages = models.JSONField()
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        verbose_name_plural = "outbox entries"
        indexes = (models.Index(fields=["application", "id"], name="outbox_turns"),)

    def __str__(self) -> str:
        return f"outbox entry {self.pk}"
