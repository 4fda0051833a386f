"""The comparison of deliveries finds what a subscriber must not see, each by its name, in records written by hand."""

from __future__ import annotations

import json
from collections import Counter
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from chatsystem.writelog.events import to_datetime
from tests.faults.deliveries import (
    DOUBLED,
    MISSING,
    MISSING_RESET,
    NEEDLESS_RESET,
    OUT_OF_ORDER,
    WRONG,
    Truth,
    compare,
)
from tests.faults.record import AT, BEGIN, END, LISTS, REFUSED, RESET, SHOWN, SILENT, digest

OURS, THEIRS = "a" * 32, "b" * 32
START = int(datetime(2026, 11, 29, tzinfo=timezone.utc).timestamp()) * 1_000_000


def at(second: int) -> str:
    return to_datetime(START + second * 1_000_000).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def position(second: int, term: int = 3) -> str:
    return f"{term}-{START + second * 1_000_000}"


def text(second: int, token: str = OURS) -> str:
    return digest(f"{token} {second}")


def shown(second: int, path: str, token: str = OURS) -> list[Any]:
    return [SHOWN, position(second), path, at(second), text(second, token)]


STORED = {
    OURS: (at(0), text(0)),
    f"{OURS}/1": (at(1), text(1)),
    f"{OURS}/2": (at(2), text(2)),
    f"{OURS}/1/1": (at(13), text(13)),
    f"{OURS}/1/2": (at(12), text(12)),
    f"{OURS}/2/1": (at(15), text(15)),
    f"{THEIRS}/1": (at(16), text(16, THEIRS)),
}
SENT = {OURS: {text(i) for i in range(30)}, THEIRS: {text(i, THEIRS) for i in range(30)}}
#: An event of ours that arrived at 17, and was discarded at 19.
DISCARDED = {OURS: [(START + 17 * 1_000_000, START + 19 * 1_000_000)]}

#: Reading 1 of the lists: the two chats. Reading 2 has everything that is stored.
LISTED = {1: ["1", "2"], 2: ["1", "2", "1/1", "1/2", "2/1"]}

#: What a subscriber of the application writes down that was shown everything.
BEGINNING = [[BEGIN, position(5), OURS, None], [LISTS, position(5), 1]]
EVENTS = [shown(11, "1/1"), shown(12, "1/2"), shown(13, "1/1"), [AT, position(14)], shown(15, "2/1")]
RIGHT = [*BEGINNING, *EVENTS, [END, position(15)]]


def found(tmp_path: Path, lines: list[list[Any]], discarded: Any = None) -> Counter[str]:
    """Returns the number of findings of each kind, without those of what was shown."""
    for number, paths in LISTED.items():
        entities = [[path, *STORED[f"{OURS}/{path}"]] for path in paths]
        _write(tmp_path / f"lists-{number}.jsonl", entities)
    _write(tmp_path / "subscriber-0.jsonl", lines)
    counts, violations = compare(tmp_path, Truth(STORED, SENT, discarded or {}))
    kinds = Counter({kind: count for kind, count in counts.items() if kind not in ("deliveries", "resets")})
    assert len(violations) == len(kinds)
    assert all(violation["invariant"] == 11 for violation in violations)
    return kinds


def _write(path: Path, lines: list[list[Any]]) -> None:
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))


def test_nothing_is_found_when_everything_was_shown_once_and_in_order(tmp_path: Path) -> None:
    assert found(tmp_path, RIGHT) == {}


def test_older_versions_may_be_skipped(tmp_path: Path) -> None:
    assert found(tmp_path, [line for line in RIGHT if line != shown(11, "1/1")]) == {}


@pytest.mark.parametrize("lost", [12, 13, 15])
def test_an_event_that_was_not_shown_is_missing(tmp_path: Path, lost: int) -> None:
    lines = [line for line in RIGHT if line[:2] != [SHOWN, position(lost)]]
    assert found(tmp_path, lines) == {MISSING: 1}


def test_what_only_the_lists_have_shown_is_missing_if_it_was_acknowledged_after_the_beginning(tmp_path: Path) -> None:
    beginning = [[BEGIN, position(5), OURS, None], [LISTS, position(5), 2]]
    assert found(tmp_path, [*beginning, *EVENTS[1:4], [END, position(15)]]) == {MISSING: 1}


def test_a_version_with_another_text_than_the_stored_one_is_missing(tmp_path: Path) -> None:
    other = [SHOWN, position(15), "2/1", at(15), text(14)]
    assert found(tmp_path, [other if line == shown(15, "2/1") else line for line in RIGHT]) == {MISSING: 1}


def test_a_subscriber_that_does_not_come_to_the_end_is_found(tmp_path: Path) -> None:
    assert found(tmp_path, RIGHT[:-1]) == {MISSING: 1}
    assert found(tmp_path, []) == {MISSING: 1}


def test_an_event_that_comes_again_is_doubled_at_once_and_later(tmp_path: Path) -> None:
    assert found(tmp_path, [*RIGHT[:3], shown(11, "1/1"), *RIGHT[3:]]) == {DOUBLED: 1}
    assert found(tmp_path, [*RIGHT[:-1], shown(12, "1/2"), RIGHT[-1]]) == {DOUBLED: 1}


def test_events_and_positions_that_go_back_are_out_of_order(tmp_path: Path) -> None:
    assert found(tmp_path, [*BEGINNING, EVENTS[1], EVENTS[0], *EVENTS[2:], RIGHT[-1]]) == {OUT_OF_ORDER: 1}
    assert found(tmp_path, [*RIGHT[:-1], [AT, position(14)], RIGHT[-1]]) == {OUT_OF_ORDER: 1}
    # A later term changes nothing: arrivals increase over all of them.
    assert found(tmp_path, [*RIGHT[:-1], [AT, position(14, term=4)], RIGHT[-1]]) == {OUT_OF_ORDER: 1}


def test_what_another_application_or_nobody_wrote_is_wrong(tmp_path: Path) -> None:
    theirs = shown(16, "1", THEIRS)
    assert found(tmp_path, [*RIGHT[:-1], theirs, RIGHT[-1]])[WRONG] >= 1
    assert found(tmp_path, [*RIGHT[:3], [SHOWN, position(12), "1/2", at(12), digest("")], *RIGHT[3:]])[WRONG] == 1
    assert found(tmp_path, [*RIGHT[:-1], shown(16, "3/1"), RIGHT[-1]]) == {WRONG: 1}


def test_what_a_subscriber_of_a_chat_does_not_follow_is_wrong(tmp_path: Path) -> None:
    def lines(*more: list[Any]) -> list[list[Any]]:
        return [[BEGIN, position(5), OURS, [1]], *EVENTS[:3], *more, [END, position(15)]]

    assert found(tmp_path, lines()) == {}
    assert found(tmp_path, lines(EVENTS[4]))[WRONG] >= 1
    # A chat is an event of the application only.
    chat = [SHOWN, position(14), "1", at(14), text(14)]
    assert found(tmp_path, lines(chat))[WRONG] >= 1


def test_an_event_with_the_position_of_another_one_is_wrong(tmp_path: Path) -> None:
    wrong = [SHOWN, position(14), "1/1", at(13), text(13)]
    assert found(tmp_path, [wrong if line == shown(13, "1/1") else line for line in RIGHT]) == {WRONG: 1}


def test_a_refusal_and_a_silent_connection_are_wrong(tmp_path: Path) -> None:
    refused, silent = [REFUSED, position(15), 404], [SILENT, position(15)]
    assert found(tmp_path, [*RIGHT[:-1], refused, silent, RIGHT[-1]]) == {WRONG: 2}


def test_a_reset_without_a_reason_is_needless(tmp_path: Path) -> None:
    reset = [[RESET, position(20)], [LISTS, position(20), 2], [END, position(20)]]
    assert found(tmp_path, [*RIGHT[:-1], *reset]) == {NEEDLESS_RESET: 1}
    # An event of another application was discarded,
    assert found(tmp_path, [*RIGHT[:-1], *reset], {THEIRS: DISCARDED[OURS]}) == {NEEDLESS_RESET: 1}
    # or the subscriber was reset for it before.
    assert found(tmp_path, [*RIGHT[:-1], reset[0], *reset], DISCARDED) == {NEEDLESS_RESET: 1}


def test_a_reset_after_which_the_lists_show_everything_is_right_if_something_was_discarded(tmp_path: Path) -> None:
    reset = [shown(17, "1"), [RESET, position(19)], [LISTS, position(19), 2], [END, position(19)]]
    assert found(tmp_path, [*RIGHT[:-1], *reset], DISCARDED) == {}
    # Also for a subscriber that was away meanwhile: the lists show what it has missed.
    assert found(tmp_path, [*RIGHT[:4], *reset[1:]], DISCARDED) == {}


def test_a_subscriber_that_may_have_seen_a_discarded_event_needs_a_reset(tmp_path: Path) -> None:
    seen = [shown(17, "1"), [AT, position(18)]]
    assert found(tmp_path, [*RIGHT[:-1], *seen, [END, position(18)]], DISCARDED)[MISSING_RESET] == 0
    assert found(tmp_path, [*RIGHT[:-1], *seen, [AT, position(20)], [END, position(20)]], DISCARDED)[MISSING_RESET] == 1
    # One that was away has not seen it.
    assert found(tmp_path, [*RIGHT[:-1], [AT, position(20)], [END, position(20)]], DISCARDED) == {}


def test_a_reset_whose_lists_were_not_read_leaves_something_missing(tmp_path: Path) -> None:
    reset = [shown(17, "1"), [RESET, position(19)], [END, position(19)]]
    assert found(tmp_path, [*RIGHT[:-1], *reset], DISCARDED) == {MISSING: 1}
