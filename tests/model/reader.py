"""A live reader of one application: compares what it was shown with the model. Documented in docs/reliability.md."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from chatsystem.writelog.events import to_micros
from chatsystem.writelog.positions import Position
from tests.live.following import RESET, Follower
from tests.model.expected import Entity


class Reader:
    """Follows an application from its beginning. After a reset it takes what every read shows, as a client does."""

    def __init__(self, token: str) -> None:
        self.follower = Follower(token, Position(0, 0))
        self.shown: dict[str, Entity] = {}
        #: How often something was lost or discarded by the last look. A reset needs such a reason.
        self.reasons = 0

    def follow(self, reasons: Callable[[], int], reload: Callable[[], dict[str, Entity]]) -> None:
        """Reads on. `reload` returns what reads show of all chats and messages."""
        before, reasons_before = self.follower.position.arrival, reasons()
        for event in self.follower.follow():
            if event == RESET:
                assert reasons() != self.reasons, "reset without a reason"
                self.shown = reload()
                before = 0
                continue
            assert isinstance(event, dict)
            path, entity = self._parsed(event)
            assert entity.arrival > before, f"{path} came twice, or out of order"
            before = entity.arrival
            self.shown[path] = entity
        # What was lost meanwhile may reset it the next time.
        self.reasons = reasons_before

    def _parsed(self, event: dict[str, Any]) -> tuple[str, Entity]:
        numbers = [event[name] for name in ("chat_number", "number") if name in event]
        path = "/".join(map(str, [self.follower.token, *numbers]))
        return path, Entity(_micros(event["created_at"]), _micros(event["last_request_time"]), _text(event))


def _micros(text: str) -> int:
    return to_micros(datetime.fromisoformat(text.replace("Z", "+00:00")))


def _text(event: dict[str, Any]) -> str:
    text: str = event["body"] if "body" in event else event["title"]
    return text
