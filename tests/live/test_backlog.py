"""The backlog of a process: each stream takes from it at its own position."""

from __future__ import annotations

import pytest

from chatsystem.writelog.positions import Position
from live import backlog
from live.backlog import Backlog, Frame, Partition, Standing, Update

OURS, THEIRS = "ours", "theirs"


def frame(arrival: int, chat: int = 1, owner: str = OURS, size: int = 0) -> Frame:
    return Frame(arrival, ((owner, None), (owner, chat)), b"%d" % arrival + b"x" * size + b"\n\n")


def partition(*frames: Frame, base: int = 0, head: int = 0) -> Partition:
    found = Partition(5)
    found.apply(Update(Position(1, head or frames[-1].arrival), head, frames, base))
    return found


def arrivals(text: bytes) -> list[int]:
    return [int(one.rstrip(b"x")) for one in text.split(b"\n\n")[:-1]]


def test_a_stream_takes_what_is_its_own_and_moves_to_the_end_of_what_was_read() -> None:
    held = partition(frame(1), frame(2, chat=2), frame(3, owner=THEIRS), frame(4), head=9)

    of_chat = held.pull([(OURS, 1)], Position(1, 0), 100, 10_000)
    of_application = held.pull([(OURS, None)], Position(1, 1), 100, 10_000)
    of_nobody = held.pull([("nobody", None)], Position(1, 0), 100, 10_000)

    assert (arrivals(of_chat.text), of_chat.position) == ([1, 4], Position(1, 9))
    assert (arrivals(of_application.text), of_application.position) == ([2, 4], Position(1, 9))
    assert (of_nobody.events, of_nobody.position) == (0, Position(1, 9))


@pytest.mark.parametrize("chats", [1, 2])
@pytest.mark.parametrize("keys", [[(OURS, None)], [(OURS, 1), (OURS, 2)]], ids=["one channel", "merged"])
@pytest.mark.parametrize(("most", "size"), [(1, 10_000), (2, 10_000), (3, 10_000), (100, 1), (100, 7)])
def test_in_however_many_pieces_nothing_is_left_out_and_nothing_comes_twice(
    keys: list[backlog.Key], chats: int, most: int, size: int
) -> None:
    held = partition(*(frame(arrival, chat=1 + arrival % chats) for arrival in range(1, 12)), head=20)

    position, seen = Position(1, 2), []
    while position.arrival < 20:
        batch = held.pull(keys, position, most, size)
        assert batch.events == len(arrivals(batch.text)) <= most
        position = batch.position
        seen += arrivals(batch.text)

    assert seen == list(range(3, 12))


@pytest.mark.parametrize("begin", [0, 3, 4, 9])
def test_earlier_events_that_are_read_later_are_held_as_if_they_had_been_read_in_order(begin: int) -> None:
    frames = [frame(arrival, chat=1 + arrival % 3, size=arrival) for arrival in range(1, 9)]
    in_order = partition(*frames, base=0, head=20)
    held = partition(*(one for one in frames if one.arrival > begin), base=begin, head=20)
    held.pull([(OURS, None)], Position(1, begin), 3, 10_000)

    held.prepend([one for one in frames if one.arrival <= begin], 0)

    assert (held.base, held.bytes, list(held.order)) == (0, in_order.bytes, list(in_order.order))
    for keys in ([(OURS, None)], [(OURS, 1)], [(OURS, 1), (OURS, 2)]):
        for arrival in range(10):
            at = Position(1, arrival)
            assert held.standing(at, OURS) is Standing.HELD
            assert held.pull(keys, at, 3, 10_000) == in_order.pull(keys, at, 3, 10_000)
    held.forget(5)
    in_order.forget(5)
    assert (held.base, held.bytes, list(held.order)) == (5, in_order.bytes, list(in_order.order))


def test_a_position_before_what_is_held_is_behind_and_one_after_it_ahead() -> None:
    held = partition(frame(6), base=5, head=8)

    assert held.standing(Position(1, 4), OURS) is Standing.BEHIND
    assert held.standing(Position(1, 5), OURS) is Standing.HELD
    assert held.standing(Position(1, 8), OURS) is Standing.HELD
    assert held.standing(Position(1, 9), OURS) is Standing.AHEAD


def test_a_position_of_another_term_has_to_be_checked_unless_its_term_is_known() -> None:
    held = partition(frame(6), base=5)
    assert held.standing(Position(0, 6), OURS) is Standing.OF_ANOTHER_TERM

    held.apply(Update(Position(2, 7), 7, [frame(7)], former={1: 6}))
    assert held.standing(Position(1, 6), OURS) is Standing.HELD
    assert held.standing(Position(1, 7), OURS) is Standing.OF_ANOTHER_TERM

    # Events were taken back.
    held.apply(Update(Position(3, 6), 6, base=6))
    assert held.standing(Position(1, 6), OURS) is Standing.OF_ANOTHER_TERM
    assert held.pull([(OURS, None)], Position(3, 6), 100, 10_000).events == 0


def test_only_streams_before_a_withdrawn_event_of_their_application_are_reset() -> None:
    held = partition(frame(6), head=8)
    held.apply(Update(Position(1, 9), 9, withdrawn={OURS: 9}))

    assert held.standing(Position(1, 8), OURS) is Standing.WITHDRAWN
    assert held.standing(Position(1, 9), OURS) is Standing.HELD
    assert held.standing(Position(1, 8), THEIRS) is Standing.HELD


def test_a_withdrawn_event_counts_also_when_redis_has_lost_its_note() -> None:
    held = partition(frame(6), head=8)
    held.apply(Update(Position(1, 9), 9, withdrawn={OURS: 9}))

    held.apply(Update(Position(2, 12), 12, former={1: 9}))

    assert held.standing(Position(1, 8), OURS) is Standing.WITHDRAWN
    assert held.standing(Position(1, 9), OURS) is Standing.HELD


def test_an_event_wakes_those_who_show_it_and_a_new_beginning_wakes_all() -> None:
    held = partition(frame(1))
    woken: list[str] = []
    wake = {name: (lambda name=name: woken.append(name)) for name in ("ours", "first", "second", "theirs")}
    held.wait([(OURS, None)], wake["ours"])
    held.wait([(OURS, 1)], wake["first"])
    held.wait([(OURS, 2)], wake["second"])
    held.wait([(THEIRS, None)], wake["theirs"])

    assert held.apply(Update(Position(1, 2), 2, [frame(2, chat=2)])) == {wake["ours"], wake["second"]}
    assert held.apply(Update(Position(2, 2), 2, base=2)) == set(wake.values())


def test_the_oldest_events_of_the_largest_partition_make_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backlog, "MAX_BYTES", 100_000)
    all_held = Backlog()
    busy, quiet = all_held.claim(1), all_held.claim(2)
    quiet.apply(Update(Position(1, 1), 1, [frame(1)], base=0))
    for arrival in range(1, 301):
        busy.apply(Update(Position(1, arrival), arrival, [frame(arrival, size=700)], base=0 if arrival == 1 else None))
        all_held.fit()

    assert all_held.bytes <= 100_000
    assert quiet.standing(Position(1, 0), OURS) is Standing.HELD
    assert busy.standing(Position(1, 1), OURS) is Standing.BEHIND
    rest = busy.pull([(OURS, 1)], Position(1, busy.base), 1_000, 10**9)
    assert arrivals(rest.text) == list(range(busy.base + 1, 301))


def test_a_partition_is_read_for_a_while_after_its_last_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    all_held = Backlog()
    held = all_held.claim(1)

    all_held.drop_unused()
    all_held.release(held)
    all_held.drop_unused()
    assert all_held.partitions == {1: held}

    monkeypatch.setattr(backlog, "KEPT_WITHOUT_STREAMS", -1.0)
    all_held.drop_unused()
    assert all_held.partitions == {}
