"""Appends an event that no table can hold, and discards it: `python -m tests.faults.poison TOKEN`.

It runs in the product's environment.

Acknowledged past the API, which would have refused it: a new title for the application's first chat, longer than its
column. Set aside as a dead event, it is discarded once the standard input ends.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import suppress

import django

from tests.support.product import eventually


def main(token: str) -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "chatsystem.settings")
    django.setup()
    from chats.models import Chat
    from chats.services import update_chat
    from chatsystem.writelog.append import RequestKey
    from chatsystem.writelog.dead_events import discard
    from chatsystem.writelog.models import DeadEvent

    longest = Chat._meta.get_field("title").max_length
    assert longest is not None

    # Texts name their application (load.py).
    text = f"{token} {'x' * longest}"
    once = RequestKey.new()

    def is_accepted() -> bool:
        update_chat(token, 1, text, once)
        return True

    def is_discarded() -> bool:
        found = list(DeadEvent.objects.filter(path=f"{token}/1"))
        for dead in found:
            discard(dead, by="tests", reason="poison")
        return bool(found)

    at_last(is_accepted)
    sys.stdin.read()
    at_last(is_discarded)


def at_last(act: Callable[[], bool]) -> None:
    """Repeats a step while the database or Redis is down, since other faults may happen at the same time."""
    from django.db import OperationalError

    from chatsystem.writelog.exceptions import LogUnavailable

    def done() -> bool:
        with suppress(LogUnavailable, OperationalError):
            return act()
        return False

    eventually(done)


if __name__ == "__main__":
    main(sys.argv[1])
