"""An event that no table can hold, and its end: `python -m tests.faults.poison TOKEN` in the product's environment.

Acknowledged past the API, which would have refused it: a new title for the application's first chat, longer than its
column. Set aside as a dead event, it is discarded once the standard input ends.
"""

from __future__ import annotations

import os
import sys

import django


def main(token: str) -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "chatsystem.settings")
    django.setup()
    from chats.intake import update_chat
    from chats.models import Chat
    from chatsystem.writelog.dead import discard
    from chatsystem.writelog.models import DeadEvent
    from tests.embedded.product import eventually

    longest = Chat._meta.get_field("title").max_length
    assert longest is not None
    update_chat(token, 1, "x" * (longest + 1))
    sys.stdin.read()
    eventually(DeadEvent.objects.filter(path=f"{token}/1").exists)
    for dead in DeadEvent.objects.all():
        discard(dead)


if __name__ == "__main__":
    main(sys.argv[1])
