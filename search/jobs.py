"""What search offers to start in the admin: the same as its command does. Documented in docs/operations.md."""

from __future__ import annotations

from chatsystem.jobs import Job, Progress
from messages_app.models import Message
from search.backends import get_backend
from search.reindexing import reindex


def _reindex(progress: Progress) -> str:
    progress.total = Message.objects.count()
    outcome = reindex(get_backend(), progress)
    removed = f", and {outcome.removed:,} documents of no message were removed" if outcome.removed else ""
    return f"{outcome.messages:,} messages are in the index{removed}."


REINDEX = Job(
    name="reindex",
    label="Reindex",
    does="Makes the search index equal to the database. Writes and searches go on meanwhile.",
    warning="It reads every message, keeps one worker busy until it has ended, and slows down what shares its machine.",
    permissions=lambda: ["search.change_outboxentry"],
    run=_reindex,
)
