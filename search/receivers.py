"""What search does when messages were stored. Documented in docs/search.md."""

from __future__ import annotations

from django.db import transaction
from django.dispatch import receiver

from messages_app.signals import messages_stored
from search import tasks
from search.models import OutboxEntry


@receiver(messages_stored)
def follow(numbers: dict[int, list[int]], **kwargs: object) -> None:
    """Notes the messages in the transaction that stores them, so that neither is there without the other."""
    OutboxEntry.objects.create(messages=list(numbers.items()))
    transaction.on_commit(tasks.hint, robust=True)
