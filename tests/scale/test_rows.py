"""What makes a row of `make scale` fail."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.scale.rows import Row, TimedLog, table

ROW = Row(
    "an engine",
    "a fault",
    acknowledged=2_000,
    lost=0,
    doubled=0,
    wrong=0,
    gap=14.9,
    allowed=15.0,
    storing_gap=20.0,
    why="",
)


def test_a_row_is_good_when_nothing_happened_and_service_was_back_in_time() -> None:
    assert ROW.is_good


@pytest.mark.parametrize("bad", [{"lost": 1}, {"doubled": 1}, {"wrong": 1}, {"gap": 15.1}], ids=str)
def test_a_row_is_bad_when_a_write_suffered_or_service_was_back_too_late(bad: dict[str, int]) -> None:
    assert not replace(ROW, **bad).is_good


def test_a_row_that_may_take_longer_says_why() -> None:
    longer = replace(ROW, gap=30.0, allowed=35.0, why="the reason")
    assert longer.is_good
    assert table([ROW, longer]).endswith("an engine, a fault: the reason")


def test_storing_has_a_gap_only_while_something_acknowledged_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1_000.0
    monkeypatch.setattr("tests.scale.rows.time.monotonic", lambda: now)
    log = TimedLog(tmp_path / "acknowledged.jsonl")

    # When two writes are acknowledged, one a second after the other, and are stored three seconds later,
    log.write("ack")
    now += 1
    log.write("ack")
    now += 3
    log.stored()
    # and nothing is acknowledged for a minute, before a write that is stored after two seconds,
    now += 60
    log.write("ack")
    now += 2
    log.stored()

    # then the gap is that of the first of the two writes.
    assert log.storing_gap == 4
    log.file.close()
