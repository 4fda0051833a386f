"""How events look on a stream: Server-Sent Events. Documented in docs/live.md."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from chatsystem.writelog.positions import Position
from live.backlog import Frame, Key
from live.events import LiveEvent
from live.tickets import token_hash

#: Ends each frame. Data is one line of JSON, so it occurs nowhere else.
END = b"\n\n"


def frames_of(term: int, events: Iterable[LiveEvent]) -> list[Frame]:
    """Encodes events, once for all streams."""
    return [Frame(event.arrival, keys_of(event), frame(Position(term, event.arrival), event)) for event in events]


def keys_of(event: LiveEvent) -> tuple[Key, ...]:
    """Returns the channels that show the event. Chats are shown to streams of the whole application only."""
    name = token_hash(event.token)
    return ((name, None), (name, event.chat)) if event.kind == "message" else ((name, None),)


def frame(position: Position, event: LiveEvent) -> bytes:
    return b"id: %s\nevent: %s\ndata: %s\n\n" % (str(position).encode(), event.kind.encode(), event.data)


def reset(position: Position) -> bytes:
    """Tells that events may be missing, or were taken back. The stream goes on from the position."""
    return b'id: %(at)s\nevent: reset\ndata: {"position":"%(at)s"}\n\n' % {b"at": str(position).encode()}


def heartbeat(position: Position) -> bytes:
    """A frame without data changes nothing but the client's position."""
    return f"id: {position}\n\n".encode()


def retry(milliseconds: int) -> bytes:
    """Tells the client how long to wait before it connects again."""
    return f"retry: {milliseconds}\n\n".encode()


def as_json(frames: bytes) -> list[dict[str, Any]]:
    """Returns frames as a long poll shows them."""
    found = []
    for text in frames.split(END)[:-1]:
        id, event, data = text.split(b"\n", 2)
        found.append(
            {
                "event": event.removeprefix(b"event: ").decode(),
                "id": id.removeprefix(b"id: ").decode(),
                "data": json.loads(data.removeprefix(b"data: ")),
            }
        )
    return found
