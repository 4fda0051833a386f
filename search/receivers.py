"""Writes outbox entries for stored messages. Documented in docs/search.md."""

from __future__ import annotations

from collections import defaultdict

from django.db import transaction
from django.dispatch import receiver

from chatsystem.jobs import job_stepped
from messages_app.signals import messages_stored
from search import outbox, tasks
from search.models import OutboxEntry

#: Seconds of indexing between two steps of a job.
KEEP_UP = 1.0


@receiver(messages_stored)
def add_to_outbox(numbers: dict[int, list[int]], applications: dict[int, int], **kwargs: object) -> None:
    """Writes the entries in the transaction that stores the messages, so that both are committed or neither."""
    entries: dict[int, list[tuple[int, list[int]]]] = defaultdict(list)
    for chat_id, of_chat in numbers.items():
        entries[applications[chat_id]].append((chat_id, of_chat))
    OutboxEntry.objects.bulk_create(
        OutboxEntry(application=application, messages=messages) for application, messages in entries.items()
    )
    transaction.on_commit(tasks.request_indexing, robust=True)


@receiver(job_stepped)
def keep_up(**kwargs: object) -> None:
    """Indexes between the steps of a long job, which runs in the indexer's process and would block it to the end."""
    outbox.index(KEEP_UP, fill=False)
