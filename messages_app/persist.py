"""Stores messages: turns the changes of a batch into rows. Documented in docs/write-log.md."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from applications.models import Application
from chats.models import Chat
from chatsystem.writelog.bulk import numbered, store_children
from chatsystem.writelog.events import Change
from messages_app.counts import MESSAGES_COUNT
from messages_app.models import Message
from messages_app.signals import messages_stored


def write(changes: Sequence[Change]) -> None:
    """Stores created and changed messages and updates their chats' counts in the running transaction."""
    chats = _chats({change.parent for change in changes})
    chat_ids = {path: chat_id for path, (chat_id, _) in chats.items()}
    numbers = store_children(Message, "chat", "body", chat_ids, changes, MESSAGES_COUNT)
    messages_stored.send(sender=Message, numbers=numbers, applications=dict(chats.values()))


def _chats(paths: set[str]) -> dict[str, tuple[int, int]]:
    """Maps the path of each stored chat to its primary key and its application's."""
    by_token: dict[str, list[int]] = defaultdict(list)
    for path in paths:
        token, number = path.split("/")
        by_token[token].append(int(number))
    tokens = dict(Application.objects.filter(token__in=by_token).values_list("pk", "token"))
    numbers = {application_id: by_token[token] for application_id, token in tokens.items()}
    return {
        f"{tokens[application_id]}/{number}": (chat_id, application_id)
        for chats in numbered(Chat, "application", numbers)
        for application_id, number, chat_id in chats.values_list("application_id", "number", "pk")
    }
