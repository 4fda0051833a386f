"""The worker side of messages: a batch's changes become rows. Documented in docs/write-log.md."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from chats.models import Chat
from chatsystem.writelog.events import Change
from chatsystem.writelog.rows import store_children
from messages_app.counts import MESSAGES_COUNT
from messages_app.models import Message
from messages_app.signals import messages_stored


def write(changes: Sequence[Change]) -> None:
    """Stores created and changed messages, and moves their chats' counts, in the running transaction."""
    chat_ids = _chat_ids({change.parent for change in changes})
    numbers = store_children(Message, "chat", "body", chat_ids, changes, MESSAGES_COUNT)
    messages_stored.send(sender=Message, numbers=numbers)


def _chat_ids(paths: set[str]) -> dict[str, int]:
    """Path → primary key, of those chats that are stored."""
    numbers: dict[str, list[int]] = defaultdict(list)
    for path in paths:
        token, number = path.split("/")
        numbers[token].append(int(number))
    return {
        f"{token}/{number}": chat_id
        for token, of_token in numbers.items()
        for number, chat_id in Chat.objects.filter(application__token=token, number__in=of_token).values_list(
            "number", "pk"
        )
    }
