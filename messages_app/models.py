"""A message: numbered 1, 2, 3 … within its chat. Documented in docs/write-log.md."""

from __future__ import annotations

from django.db import models

from chats.models import Chat


class Message(models.Model):
    # The unique constraint below already indexes the chat.
    chat = models.ForeignKey(Chat, on_delete=models.PROTECT, related_name="messages", db_index=False)
    number = models.PositiveBigIntegerField()
    body = models.TextField()
    created_at = models.DateTimeField()
    last_request_time = models.DateTimeField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["chat", "number"], name="message_number_once")]

    def __str__(self) -> str:
        return f"message {self.number}"
