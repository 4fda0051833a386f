"""Measures how long recovery from a fault takes. Documented in docs/reliability.md."""

from __future__ import annotations

import time
from collections.abc import Callable

from tests.faults.load import Client, Load
from tests.faults.stack import Stack
from tests.support.product import eventually

#: Seconds within which service must be back after a fault.
LIMIT = 15.0
#: Seconds after which a probe is repeated with a new message.
TIMEOUT = 5.0
#: Seconds between two probes. Many recoveries are measured at once, and must not be the load.
EVERY = 0.25
#: Seconds after which the recovery has failed.
PATIENCE = 40 * LIMIT


Search = Callable[[Client, str], bool]


def recover(stack: Stack, load: Load, *, search: Search | None = Client.finds) -> float:
    """Returns the seconds until service is back: until beat has swept, and a new message of each application is
    acknowledged, stored and (with `search`) found, and a poll of its chat is answered. A missing sweep would only show
    when a hint is lost.
    """
    began = time.monotonic()
    eventually(stack.forget_sweep, PATIENCE, EVERY)
    client = Client(load.base, load.log, timeout=TIMEOUT)
    # In each application, since a fault may hold up only one partition.
    for chat in {chat.partition("/")[0]: chat for _, chat in load.chats}.values():
        _wait_for_one_more(client, chat, search)
    eventually(stack.was_swept, PATIENCE, EVERY)
    return time.monotonic() - began


def _wait_for_one_more(client: Client, chat: str, search: Search | None) -> None:
    (path,) = client.create_messages(chat.partition("/")[0], chat, 1)
    number = int(path.rpartition("/")[2])
    eventually(lambda: client.messages_count(chat) >= number, PATIENCE, EVERY)
    eventually(lambda: client.follows(chat), PATIENCE, EVERY)
    if search:
        eventually(lambda: search(client, path), PATIENCE, EVERY)
