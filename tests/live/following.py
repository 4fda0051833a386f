"""A reader that goes from position to position, as a stream does, without its server."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from chatsystem.writelog import feed
from chatsystem.writelog.exceptions import LogUnavailable
from chatsystem.writelog.keys import partition_of
from chatsystem.writelog.positions import Position
from chatsystem.writelog.tail import tails
from live import replay
from live.events import events_of
from tests.support.harness import Tenant

RESET = "reset"


@dataclass
class Follower:
    """What a client of one application has seen. `shown` holds the newest representation of each entity."""

    token: str
    position: Position
    arrivals: list[int] = field(default_factory=list)
    shown: dict[tuple[int, int | None], dict[str, Any]] = field(default_factory=dict)
    resets: int = 0

    @classmethod
    def of(cls, tenant: Tenant) -> Follower:
        """Begins at the position of the list of chats."""
        return cls(tenant.token, position_of(tenant, "/chats"))

    def follow(self) -> list[dict[str, Any] | str]:
        """Reads on to the end. Returns the data of the events, RESET in place of a reset."""
        partition = partition_of(self.token)
        found: list[dict[str, Any] | str] = []
        while True:
            tail = tails({partition: self.position.arrival})[partition]
            if isinstance(tail, LogUnavailable):
                raise tail
            if not replay.check(partition, self.position, tail.term, tail.clock):
                return [*found, self._reset(Position(tail.term, tail.clock))]
            events = []
            if tail.stored > self.position.arrival:
                pages = replay.replay(partition, self._owns, None, self.position.arrival, tail.stored)
                try:
                    events += [event for page in pages for event in page]
                except feed.Gap:
                    return [*found, self._reset(Position(tail.term, tail.clock))]
            events += [event for event in events_of(tail.entries) if self._owns(event.token)]
            for event in events:
                data = json.loads(event.data)
                self.arrivals.append(event.arrival)
                self.shown[event.chat, data["number"] if event.kind == "message" else None] = data
                found.append(data)
            self.position = Position(tail.term, max(tail.through, tail.stored))
            if self.position.arrival >= tail.clock:
                return found

    def _owns(self, token: str) -> bool:
        return token == self.token

    def _reset(self, position: Position) -> str:
        self.position = position
        self.resets += 1
        return RESET


def position_of(tenant: Tenant, path: str) -> Position:
    """Returns the position of a list, such as "/chats"."""
    response = tenant.api.get(f"{tenant.path}{path}")
    assert response.status_code == 200, response.content
    return Position.parse(response["Stream-Position"])
