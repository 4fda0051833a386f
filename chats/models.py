"""A chat: numbered 1, 2, 3 … within its application. Documented in docs/write-log.md."""

from __future__ import annotations

from django.db import models

from applications.models import Application


class Chat(models.Model):
    # The unique constraint below already indexes the application.
    application = models.ForeignKey(Application, on_delete=models.PROTECT, related_name="chats", db_index=False)
    number = models.PositiveBigIntegerField()
    title = models.CharField(max_length=255, db_index=True)
    messages_count = models.PositiveBigIntegerField(default=0)
    recount_due = models.BooleanField(default=False, db_index=True)
    created_at = models.DateTimeField()
    last_request_time = models.DateTimeField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["application", "number"], name="chat_number_once")]

    def __str__(self) -> str:
        return self.title
