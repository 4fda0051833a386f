"""Stores chats: turns the changes of a batch into rows. Documented in docs/write-log.md."""

from __future__ import annotations

from collections.abc import Sequence

from applications.models import Application
from chats.counts import CHATS_COUNT
from chats.models import Chat
from chatsystem.writelog.bulk import store_children
from chatsystem.writelog.events import Change


def write(changes: Sequence[Change]) -> None:
    """Stores created and changed chats and updates their applications' counts in the running transaction."""
    tokens = {change.parent for change in changes}
    application_ids = dict(Application.objects.filter(token__in=tokens).values_list("token", "pk"))
    store_children(Chat, "application", "title", application_ids, changes, CHATS_COUNT)
