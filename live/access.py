"""Which applications and chats exist, remembered so that a client that comes back costs no SQL."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from applications.selectors import get_application
from chats.selectors import get_chat

#: An application's token, and a chat's number or None.
Entity = tuple[str, int | None]

#: Entities that a process remembers. Nothing is ever removed, so an entry never goes stale.
MAX_KNOWN = 100_000
#: Look-ups that may be under way.
MAX_LOOKUPS = 200


class TooMany(Exception):
    """Too many look-ups are under way."""


class Known:
    """Only those that exist: a client could fill a memory of those that do not."""

    def __init__(self) -> None:
        self._known: dict[Entity, None] = {}
        self._lookups: dict[Entity, asyncio.Task[None]] = {}

    async def expect(self, entity: Entity, in_thread: Callable[..., Coroutine[Any, Any, None]]) -> None:
        """Raises UnknownEntity if it does not exist, or `TooMany`."""
        if entity in self._known:
            return
        # A thousand clients that ask for one chat at once wait for the same look-up.
        looking = self._lookups.get(entity)
        if looking is None:
            if len(self._lookups) >= MAX_LOOKUPS:
                raise TooMany
            looking = self._lookups[entity] = asyncio.ensure_future(in_thread(look_up, entity))
            looking.add_done_callback(lambda _: self._lookups.pop(entity))
        # One client that goes away does not end it for the others.
        await asyncio.shield(looking)
        if entity not in self._known and len(self._known) >= MAX_KNOWN:
            del self._known[next(iter(self._known))]
        self._known[entity] = None


def look_up(entity: Entity) -> None:
    token, chat = entity
    if chat is None:
        get_application(token)
    else:
        get_chat(token, chat)
