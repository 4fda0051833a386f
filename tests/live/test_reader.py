"""The reader's thread beside a busy event loop."""

from __future__ import annotations

import asyncio
from functools import partial

from chatsystem.writelog.keys import partition_of
from chatsystem.writelog.positions import Position
from chatsystem.writelog.tail import heads
from live.backlog import Backlog, Change, Partition
from live.reader import Reader
from tests.support.harness import Tenant
from tests.support.product import eventually


def has_read(partition: Partition, end: Position) -> bool:
    return partition.cursor == end


def test_a_busy_event_loop_does_not_keep_the_reader_from_the_log(ours: Tenant) -> None:
    # Given a reader whose event loop has no time,
    loop = asyncio.new_event_loop()
    backlog = Backlog()
    partition = backlog.claim(partition_of(ours.token))
    taken_in: list[Change] = []
    reader = Reader(backlog, loop, taken_in.extend)
    ours.chat("a chat")
    reader.start()
    eventually(lambda: partition.cursor is not None)

    # when messages arrive one after the other,
    for number in (1, 2, 3):
        ours.message(1, f"message {number}")
        # then it reads each before a drain trims it.
        (end,) = heads([partition.number]).values()
        eventually(partial(has_read, partition, end))
    assert reader.polled == {}

    # And the loop takes all of them in, in order, before it hears that the partition was read.
    while not reader.polled:
        loop.run_until_complete(asyncio.sleep(0.01))
    reader.stop()
    read_through = [update.head for _, update in taken_in]
    assert read_through == sorted(read_through, key=lambda head: head.arrival)
    texts = b"".join(frame.text for _, update in taken_in for frame in update.frames)
    assert [texts.count(b"message %d" % number) for number in (1, 2, 3)] == [1, 1, 1]
    assert texts.index(b"message 1") < texts.index(b"message 2") < texts.index(b"message 3")
    loop.close()
