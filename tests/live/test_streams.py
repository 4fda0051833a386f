"""How a stream sends what is new: at once, or by its task where the client may have to be waited for."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

import pytest

from chatsystem.writelog.positions import Position
from live.backlog import Frame, Partition, Update
from live.catchup import Subject
from live.streams import PUSHED_BYTES, Stream, Streams
from live.worker import LiveProtocol
from tests.support.product import PATIENCE

OURS, THEIRS = "ours", "theirs"


class Client:
    """A client of one stream. It takes what is pushed only while `takes` is true; its task's writes always succeed."""

    def __init__(self, streams: Streams) -> None:
        self.takes = True
        self.pushed: list[bytes] = []
        self.written: list[bytes] = []
        self.stream = Stream(
            streams, Subject(5, OURS, frozenset([1])), self.write, lambda: None, lifetime=60, push=self.push
        )

    def push(self, text: bytes) -> bool:
        if self.takes:
            self.pushed.append(text)
        return self.takes

    async def write(self, text: bytes, position: Position) -> None:
        if text:
            self.written.append(text)


def frame(arrival: int, text: bytes, owner: str = OURS) -> Frame:
    return Frame(arrival, ((owner, None), (owner, 1)), text)


def read(partition: Partition, *frames: Frame, base: int | None = None) -> list[tuple[Partition, Update]]:
    return [(partition, Update(Position(1, frames[-1].arrival), frames[-1].arrival, frames, base))]


async def until(question: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not question():
            await asyncio.sleep(0.001)


@pytest.mark.parametrize(
    ("takes", "text", "pushed", "written"),
    [
        (True, b"little", [b"little"], []),
        (True, b"x" * (PUSHED_BYTES + 1), [], [b"x" * (PUSHED_BYTES + 1)]),
        (False, b"little", [], [b"little"]),
    ],
    ids=["little", "much", "client that has not taken what came before"],
)
def test_only_little_is_sent_at_once_and_only_to_a_client_that_has_taken_everything(
    takes: bool, text: bytes, pushed: list[bytes], written: list[bytes]
) -> None:
    async def main() -> None:
        # Given a stream that waits,
        streams = Streams()
        streams.loop = asyncio.get_running_loop()
        client = Client(streams)
        partition = streams.backlog.claim(5)
        streams.apply(read(partition, frame(1, b"begin"), base=0))
        task = asyncio.create_task(client.stream.run(Position(1, 1), is_malformed=False))
        await until(lambda: client.stream.is_waiting)

        # when an event of another application and one of its own are read,
        client.takes = takes
        streams.apply(read(partition, frame(2, b"foreign", THEIRS), frame(3, text)))
        await until(lambda: client.stream.position == Position(1, 3) and client.stream.is_waiting)
        client.takes = True
        streams.apply(read(partition, frame(4, b"next")))
        await until(lambda: client.stream.position == Position(1, 4))

        # then each is sent once.
        assert (client.pushed, client.written) == ([*pushed, b"next"], written)
        client.stream.end()
        await task

    asyncio.run(main())


def test_a_stream_that_fails_is_dropped_and_the_others_get_their_events(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        # Given several streams that wait, of which one fails when it sends,
        streams = Streams()
        streams.loop = asyncio.get_running_loop()
        clients = [Client(streams) for _ in range(5)]
        partition = streams.backlog.claim(5)
        streams.apply(read(partition, frame(1, b"begin"), base=0))
        tasks = [asyncio.create_task(each.stream.run(Position(1, 1), is_malformed=False)) for each in clients]
        await until(lambda: all(each.stream.is_waiting for each in clients))
        dropped: list[str] = []
        clients[2].stream.push = lambda text: text == 1 // 0
        clients[2].stream.abort = lambda: dropped.append("third")

        # when events arrive one after the other,
        for arrival in (2, 3):
            streams.apply(read(partition, frame(arrival, b"%d" % arrival)))
            await until(lambda arrival=arrival: clients[0].stream.position == Position(1, arrival))  # type: ignore[misc]

        # then its connection is dropped, and all others have both.
        assert dropped == ["third"] * 2
        assert [each.pushed for each in clients] == [[b"2", b"3"]] * 2 + [[]] + [[b"2", b"3"]] * 2
        for each, task in zip(clients, tasks, strict=True):
            each.stream.end()
            await task

    asyncio.run(main())
    assert "A stream has failed" in caplog.text


def test_nothing_more_is_pushed_to_a_client_that_takes_nothing() -> None:
    async def main() -> None:
        # Given a connection whose other end reads nothing,
        ours, theirs = socket.socketpair()
        transport, _ = await asyncio.get_running_loop().create_connection(asyncio.Protocol, sock=ours)
        protocol = LiveProtocol.__new__(LiveProtocol)
        protocol.transport, protocol._closed = transport, False

        # when events are pushed until they are refused,
        pushed = 0
        while pushed < 10_000 and protocol._push(b"x" * PUSHED_BYTES):
            pushed += 1

        # then at most one of them waits for the client in this process.
        assert 0 < pushed < 10_000
        assert 0 < transport.get_write_buffer_size() <= PUSHED_BYTES + len(b"4000\r\n\r\n")
        transport.abort()
        theirs.close()

    asyncio.run(main())
