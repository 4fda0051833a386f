"""The checker: compares the clients' log with what is stored and indexed. Documented in docs/reliability.md.

`python -m tests.faults.check ACK_LOG` in the environment of the product (DATA_DIR, DATABASE_URL, …) prints a JSON line
for each violation of an invariant of DESIGN §3, and one with what it compared. What subscribers were shown is compared
too, when everything has settled (deliveries.py).
"""

from __future__ import annotations

import json
import os
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import django

from tests.faults.deliveries import Truth, compare
from tests.faults.record import digest, folder_of_subscribers

#: Invariants that do not hold while something is still being stored or indexed.
UNSETTLED = (5, 7)


@dataclass
class Acknowledged:
    """What the clients know of one entity."""

    created: list[tuple[str, str]] = field(default_factory=list)
    #: (last_request_time, text) of each acknowledgement.
    writes: list[tuple[str, str]] = field(default_factory=list)


def main(ack_log: Path) -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "chatsystem.settings")
    django.setup()
    entries = [json.loads(line) for line in ack_log.read_text().splitlines()]
    acks: dict[str, Acknowledged] = defaultdict(Acknowledged)
    for entry in entries:
        if entry["kind"] == "ack":
            acks[entry["path"]].writes.append((entry["at"], entry["text"]))
            if entry["created"]:
                acks[entry["path"]].created.append((entry["at"], entry["text"]))
    sent, unsure = (
        {text for entry in entries if entry["kind"] == kind for text in entry["texts"]} for kind in ("sent", "unsure")
    )
    stored = dict(_stored())

    found = [(entry["invariant"], entry["what"]) for entry in entries if entry["kind"] == "violation"]
    found += _rows(acks, stored, sent, unsure)
    found += _numbers(stored)
    found += _settled()
    found += _index()
    found += _counts()
    violations = [{"invariant": invariant, "what": what} for invariant, what in found]
    delivered: dict[str, int] = {}
    # Until then the checker is run again and again, and this takes longest.
    if not any(invariant in UNSETTLED for invariant, _ in found):
        delivered, missed = compare(folder_of_subscribers(ack_log), _truth(stored, sent | unsure))
        violations += missed
    for violation in violations:
        print(json.dumps(violation))
    print(
        json.dumps(
            {"acknowledged": sum(len(a.writes) for a in acks.values()), "stored": len(stored), "delivered": delivered}
        )
    )


def _truth(stored: dict[str, tuple[str, str]], texts: set[str]) -> Truth:
    from chatsystem.writelog.models import DiscardedEvent

    sent: dict[str, set[str]] = {path: set() for path in stored if "/" not in path}
    for text in texts:
        token = text.partition(" ")[0]
        if token in sent:
            sent[token].add(digest(text))
    discarded: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for path, text, arrival, withdrawn in DiscardedEvent.objects.values_list("path", "text", "arrival", "withdrawn"):
        token = path.partition("/")[0]
        discarded[token].append((arrival, withdrawn))
        sent[token].add(digest(text))
    return Truth({path: (at, digest(text)) for path, (at, text) in stored.items()}, sent, discarded)


def _stored() -> Iterator[tuple[str, tuple[str, str]]]:
    """Returns (last_request_time in the API's format, text) of each row, by path."""
    from applications.models import Application
    from chats.models import Chat
    from messages_app.models import Message

    queries: list[Any] = [
        Application.objects.values_list("token", "last_request_time", "name"),
        Chat.objects.values_list("application__token", "number", "last_request_time", "title"),
        Message.objects.values_list("chat__application__token", "chat__number", "number", "last_request_time", "body"),
    ]
    for query in queries:
        for *path, at, text in query:
            yield "/".join(map(str, path)), (at.strftime("%Y-%m-%dT%H:%M:%S.%fZ"), text)


def _rows(
    acks: dict[str, Acknowledged], stored: dict[str, tuple[str, str]], sent: set[str], unsure: set[str]
) -> Iterator[tuple[int, str]]:
    for path, known in acks.items():
        if len({text for _, text in known.created}) > 1:
            yield 2, f"{path} was acknowledged for two bodies: {known.created}"
        if path not in stored:
            yield 1, f"{path} was acknowledged and is not stored"
        # A repeated update, whose first try got no answer or a 503 because Redis gave none: both tries may
        # have been executed, the unanswered one last.
        elif stored[path] != max(known.writes) and not (stored[path] > max(known.writes) and stored[path][1] in unsure):
            yield 3, f"{path} holds {stored[path]}, and the last acknowledged is {max(known.writes)}"
    for path, (_, text) in stored.items():
        if path not in acks or text not in sent:
            yield 4, f"{path} holds {text!r}, which nobody sent or nobody was told"
        if "/" in path and not text.startswith(path.partition("/")[0]):
            yield 10, f"{path} holds another application's text"
    for text, times in Counter(text for _, text in stored.values()).items():
        if times > 1:
            yield 1, f"{text!r} is stored {times} times"


def _numbers(stored: dict[str, Any]) -> Iterator[tuple[int, str]]:
    numbers: dict[str, list[int]] = defaultdict(list)
    for path in stored:
        parent, _, name = path.rpartition("/")
        if parent:
            numbers[parent].append(int(name))
    for parent, given in numbers.items():
        if sorted(given) != list(range(1, len(given) + 1)):
            yield 2, f"the numbers under {parent} are not 1..{len(given)}"


def _settled() -> Iterator[tuple[int, str]]:
    from chatsystem.writelog import stream
    from chatsystem.writelog.keys import PARTITIONS, Keys
    from chatsystem.writelog.models import DeadEvent
    from chatsystem.writelog.redis_client import client
    from search.models import OutboxEntry

    if left := stream.lengths():
        yield 7, f"the log holds events: {left}"
    if left := sum(client(partition).hlen(Keys(partition).pending) for partition in range(PARTITIONS)):
        yield 7, f"{left} texts are pending"
    for model in (DeadEvent, OutboxEntry):
        if left := model.objects.count():
            yield 7, f"there are {left} {model._meta.verbose_name_plural}"


def _index() -> Iterator[tuple[int, str]]:
    from search.backends import get_backend
    from search.reindex import differences

    for difference in differences(get_backend()):
        yield 5, str(difference)


def _counts() -> Iterator[tuple[int, str]]:
    """Checks the counts before any reconcile, since the drain updates them in the transaction of the rows."""
    from chatsystem.writelog.counts import all_counts

    for count in all_counts():
        for drift in count.drifts(count.parent._default_manager.all()):
            yield 6, f"{count} of id {drift.parent_id} is {drift.stored}, and there are {drift.actual}"


if __name__ == "__main__":
    main(Path(sys.argv[1]))
