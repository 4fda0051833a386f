"""How long it takes after a fault until all is well again. Documented in docs/reliability.md."""

from __future__ import annotations

import time
from collections.abc import Callable

from tests.embedded.product import eventually
from tests.faults.load import Client, Load
from tests.faults.stack import Stack

#: Seconds within which service is back after a fault.
LIMIT = 15.0
#: Seconds after which the question whether it is back is asked anew.
TIMEOUT = 5.0
#: Seconds after which it is asked no more.
PATIENCE = 10 * LIMIT


Search = Callable[[Client, str], bool]


def recover(stack: Stack, load: Load, *, search: Search | None = Client.finds) -> float:
    """Seconds until a new message of each application is acknowledged, stored and, unless that is not asked, found, and
    beat's sweep has come by, which nobody misses until a hint is lost.
    """
    began = time.monotonic()
    eventually(stack.forget_sweep, PATIENCE)
    client = Client(load.base, load.log, timeout=TIMEOUT)
    # In each application, since what holds up one partition need not hold up another.
    for chat in {chat.partition("/")[0]: chat for _, chat in load.chats}.values():
        _wait_for_one_more(client, chat, search)
    eventually(stack.was_swept, PATIENCE)
    return time.monotonic() - began


def _wait_for_one_more(client: Client, chat: str, search: Search | None) -> None:
    (path,) = client.create_messages(chat.partition("/")[0], chat, 1)
    number = int(path.rpartition("/")[2])
    eventually(lambda: client.messages_count(chat) >= number, PATIENCE)
    if search:
        eventually(lambda: search(client, path), PATIENCE)
