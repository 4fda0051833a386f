"""Compares what subscribers were shown with what is stored: invariant 11. Documented in docs/reliability.md."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.faults.record import AT, BEGIN, END, LISTS, REFUSED, RESET, SHOWN, SILENT, arrival_of, micros

MISSING, DOUBLED, OUT_OF_ORDER, WRONG = "missing", "doubled", "out of order", "wrong"
NEEDLESS_RESET, MISSING_RESET = "needless reset", "missing reset"
#: Not findings: how many events and resets there were.
DELIVERIES, RESETS = "deliveries", "resets"
KINDS = (DELIVERIES, MISSING, DOUBLED, OUT_OF_ORDER, WRONG, RESETS, NEEDLESS_RESET, MISSING_RESET)

#: last_request_time, and digest of the text.
Version = tuple[str, str]


@dataclass(frozen=True)
class Truth:
    """What is stored when everything has settled, and what subscribers may have seen before."""

    #: By path. All are the last acknowledged ones; check.py compares them.
    stored: Mapping[str, Version]
    #: By token: the digests of all texts that were sent to the application.
    sent: Mapping[str, set[str]]
    #: By token: arrival and withdrawal of each discarded event, the only thing in these tests that takes back what
    #: was shown.
    discarded: Mapping[str, list[tuple[int, int]]] = field(default_factory=dict)


def compare(folder: Path, truth: Truth) -> tuple[Counter[str], list[dict[str, Any]]]:
    """Returns how often each kind of thing was found, and a violation for each subscriber and kind."""
    lists = {int(path.stem.partition("-")[2]): _read(path) for path in folder.glob("lists-*.jsonl")}
    counts: Counter[str] = Counter()
    violations = []
    for path in sorted(folder.glob("subscriber-*.jsonl")):
        subscriber = Deliveries(truth, lists)
        found: Counter[str] = Counter()
        first: dict[str, str] = {}
        for kind, what in subscriber.findings(_read(path)):
            found[kind] += 1
            first.setdefault(kind, what)
        counts += found + subscriber.counts
        violations += [
            {"invariant": 11, "what": f"{path.stem}: {found[kind]} {kind}, first: {what}"}
            for kind, what in first.items()
        ]
    return counts, violations


def _read(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text().splitlines()]


class Deliveries:
    """What one subscriber was shown. `lists` are the readings of lists, by number: path below the token and version."""

    def __init__(self, truth: Truth, lists: Mapping[int, list[Any]]) -> None:
        self.truth, self.lists = truth, lists
        self.counts: Counter[str] = Counter()
        self.token = ""
        self.chats: list[int] | None = None
        self.arrival = 0
        #: The last position from which everything has to be shown: the beginning, or a reset.
        self.base = 0
        #: What the client's screen shows: lists, and events on top of them.
        self.screen: dict[str, Version] = {}
        #: The newest version of each entity in an event, by arrival.
        self.shown: dict[str, int] = {}

    def findings(self, lines: Iterable[list[Any]]) -> Iterator[tuple[str, str]]:
        """Yields each finding: its kind, and what was found."""
        kind = position = None
        for kind, position, *more in lines:
            if kind == BEGIN:
                self.token, self.chats = more
                self.arrival = self.base = arrival_of(position)
            elif kind == LISTS:
                self.screen = {path: (at, text) for path, at, text in self.lists[more[0]]}
            elif kind == SHOWN:
                self.counts[DELIVERIES] += 1
                yield from self._event(position, *more)
            elif kind == AT:
                yield from self._move(position)
            elif kind == RESET:
                yield from self._reset(position)
            elif kind == REFUSED:
                yield WRONG, f"status {more[0]} at {position}"
            elif kind == SILENT:
                yield WRONG, f"a connection without a heartbeat at {position}"
        if kind != END:
            yield MISSING, f"did not come to the end: {kind} at {position}"
        yield from self._missing()

    def _event(self, position: str, path: str, at: str, text: str) -> Iterator[tuple[str, str]]:
        arrival, version = arrival_of(position), micros(at)
        if version != arrival:
            yield WRONG, f"{path} of {at} has the position {position}"
        if not self._follows(path):
            yield WRONG, f"{path}, which it does not follow"
        if text not in self.truth.sent[self.token]:
            others = any(text in texts for texts in self.truth.sent.values())
            yield WRONG, f"{path} at {position}: " + ("another application's text" if others else "nobody sent it")
        if arrival > self.arrival:
            yield from self._move(position)
        elif self.shown.get(path, 0) >= version:
            yield DOUBLED, f"{path} of {at} at {position}"
        else:
            yield OUT_OF_ORDER, f"{path} at {position}, after {self.arrival}"
        self.shown[path] = max(version, self.shown.get(path, 0))
        # A list that was read meanwhile may show a later version.
        self.screen[path] = max(self.screen.get(path, ("", "")), (at, text))

    def _move(self, position: str) -> Iterator[tuple[str, str]]:
        arrival = arrival_of(position)
        if arrival < self.arrival:
            yield OUT_OF_ORDER, f"the position {position}, after {self.arrival}"
        for discarded, withdrawn in self.truth.discarded.get(self.token, []):
            # From here the subscriber may have seen it.
            if discarded <= self.arrival < withdrawn <= arrival:
                yield MISSING_RESET, f"at {position}, for what was discarded at {withdrawn}"
        self.arrival = max(arrival, self.arrival)

    def _reset(self, position: str) -> Iterator[tuple[str, str]]:
        arrival = arrival_of(position)
        self.counts[RESETS] += 1
        discarded = self.truth.discarded.get(self.token, [])
        if not any(self.arrival < withdrawn <= arrival for _, withdrawn in discarded):
            yield NEEDLESS_RESET, f"at {position}, after {self.arrival}"
        self.arrival = self.base = arrival

    def _missing(self) -> Iterator[tuple[str, str]]:
        """Yields each entity of which it was not shown the last version."""
        ours = {
            path.partition("/")[2]: version
            for path, version in self.truth.stored.items()
            if path.startswith(f"{self.token}/")
        }
        for path, (at, text) in ours.items():
            if not self._follows(path):
                continue
            if micros(at) > self.base and self.shown.get(path) != micros(at):
                yield MISSING, f"{path} of {at}, after {self.base}"
            elif self.screen.get(path) != (at, text):
                yield MISSING, f"{path} of {at}: it has {self.screen.get(path)}"
        for path in self.screen.keys() - ours.keys():
            yield WRONG, f"{path} is not stored"

    def _follows(self, path: str) -> bool:
        """Returns whether it follows this chat or message."""
        chat, _, message = path.partition("/")
        return self.chats is None or (bool(message) and int(chat) in self.chats)
