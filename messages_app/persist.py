"""Stores messages: turns the changes of a batch into rows. Documented in docs/write-log.md."""

from __future__ import annotations

from collections.abc import Sequence

from chats.selectors import stored_chats
from chatsystem.writelog.bulk import store_children
from chatsystem.writelog.events import Change
from messages_app.counts import MESSAGES_COUNT
from messages_app.models import Message
from messages_app.signals import messages_stored


def write(changes: Sequence[Change]) -> None:
    """Stores created and changed messages and updates their chats' counts in the running transaction."""
    chats = stored_chats({change.parent for change in changes})
    chat_ids = {path: chat_id for path, (chat_id, _) in chats.items()}
    numbers = store_children(Message, "chat", "body", chat_ids, changes, MESSAGES_COUNT)
    messages_stored.send(sender=Message, numbers=numbers, applications=dict(chats.values()))
