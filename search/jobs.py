"""The job that the admin can start: the same as `manage.py reindex`. Documented in docs/operations.md."""

from __future__ import annotations

from chatsystem.jobs import Job, Progress
from messages_app.models import Message
from search.backends import get_backend
from search.reindex import reindex


def _reindex(progress: Progress) -> str:
    progress.total = Message.objects.count()
    outcome = reindex(get_backend(), progress)
    removed = f", and {outcome.removed:,} documents without a message were removed" if outcome.removed else ""
    return f"{outcome.messages:,} messages are in the index{removed}."


REINDEX = Job(
    name="reindex",
    label="Reindex",
    does="Makes the search index equal to the database. Writes and searches continue meanwhile.",
    warning="It reads every message, occupies one worker until it ends, and slows down other processes on the machine.",
    permissions=lambda: ["search.change_outboxentry"],
    run=_reindex,
)
