"""A reader that goes from position to position, as a stream does, without its server."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from chatsystem.writelog.exceptions import LogUnavailable
from chatsystem.writelog.keys import partition_of
from chatsystem.writelog.positions import Position
from chatsystem.writelog.tail import heads, tails
from live.catchup import Page, Subject, TakenBack, pages
from live.frames import as_json
from live.tickets import token_hash
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
        try:
            for page in pages(Subject(partition, token_hash(self.token), None), self.position):
                found += self._show(page)
                if self.position.arrival >= heads([partition])[partition].arrival:
                    break
        except TakenBack:
            tail = tails({partition: self.position.arrival})[partition]
            if isinstance(tail, LogUnavailable):
                raise tail from None
            self.position = Position(tail.term, tail.clock)
            self.resets += 1
            found.append(RESET)
        return found

    def _show(self, page: Page) -> list[dict[str, Any]]:
        self.position = page.position
        self.arrivals += [frame.arrival for frame in page.frames]
        events = as_json(b"".join(frame.text for frame in page.frames))
        for event in events:
            data = event["data"]
            is_message = event["event"] == "message"
            self.shown[(data["chat_number"], data["number"]) if is_message else (data["number"], None)] = data
        return [event["data"] for event in events]


def position_of(tenant: Tenant, path: str) -> Position:
    """Returns the position of a list, such as "/chats"."""
    response = tenant.api.get(f"{tenant.path}{path}")
    assert response.status_code == 200, response.content
    return Position.parse(response["Stream-Position"])
