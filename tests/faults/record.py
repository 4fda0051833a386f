"""What a subscriber writes down: a JSON line for each thing that it was told. Documented in docs/reliability.md."""

from __future__ import annotations

import hashlib
import json
from datetime import datetime
from pathlib import Path
from typing import Any

from chatsystem.writelog.events import to_micros

#: The first word of a line. The second is the position that the subscriber has then.
#: Where it begins, the application's token, and the numbers of its chats or null for all.
BEGIN = "begin"
#: The number of a reading of its lists (`lists-<number>.jsonl`), which shows what there is.
LISTS = "lists"
#: An event: the path below the token, last_request_time, and the digest of the text.
SHOWN = "shown"
#: A position without an event.
AT = "at"
RESET = "reset"
#: A status that no subscriber may get.
REFUSED = "refused"
#: Nothing came for a long time, not even a heartbeat.
SILENT = "silent"
#: It was shown everything.
END = "end"


class Record:
    def __init__(self, path: Path) -> None:
        self.file = path.open("w")

    def write(self, kind: str, position: str, *more: Any) -> None:
        self.file.write(json.dumps([kind, position, *more]) + "\n")

    def close(self) -> None:
        self.file.close()


def folder_of_subscribers(ack_log: Path) -> Path:
    """Returns where the subscribers beside the clients of this log write down what they are shown."""
    return ack_log.with_suffix(".subscribers")


def digest(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def arrival_of(position: str) -> int:
    return int(position.partition("-")[2])


def micros(at: str) -> int:
    """Returns the arrival that a last_request_time tells."""
    return to_micros(datetime.fromisoformat(at.replace("Z", "+00:00")))
