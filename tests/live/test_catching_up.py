"""Streams that come back to a new process: what was written lately is read once for all of them."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.db import DataError

from chatsystem.writelog import dead_events
from chatsystem.writelog.keys import Keys, partition_of
from chatsystem.writelog.models import DeadEvent
from chatsystem.writelog.positions import Position
from live import catchup
from live import streams as live_streams
from live.backlog import Frame, Standing, Update
from live.catchup import Page, Subject
from live.frames import as_json
from live.streams import HEARTBEAT, REPLAYING, Stream, Streams
from live.tickets import token_hash
from tests.live.following import position_of
from tests.support.harness import Tenant
from tests.support.product import PATIENCE

Drain = Callable[[], None]


class Client:
    """A stream of an application, or of some of its chats, and what it was sent."""

    def __init__(self, streams: Streams, tenant: Tenant, begin: Position, chats: frozenset[int] | None = None) -> None:
        subject = Subject(partition_of(tenant.token), token_hash(tenant.token), chats)
        self.stream = Stream(streams, subject, self._write, lambda: None, lifetime=600)
        self.events: list[dict[str, Any]] = []
        self.heartbeats: list[Position] = []
        self.task = asyncio.create_task(self.stream.run(begin, is_malformed=False))

    @property
    def texts(self) -> list[str]:
        return [event["data"]["body"] if event["event"] == "message" else event["event"] for event in self.events]

    async def _write(self, text: bytes, position: Position) -> None:
        self.events += as_json(text)
        if not text:
            self.heartbeats.append(position)

    async def end(self) -> None:
        self.stream.end()
        await self.task


@contextmanager
def new_process() -> Iterator[Streams]:
    streams = Streams()
    streams.start(on_failure=lambda: None)
    try:
        yield streams
    finally:
        streams.reader.stop()
        streams.threads.shutdown()


async def until(question: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not question():
            await asyncio.sleep(0.01)


def edit(tenant: Tenant, body: str) -> None:
    """Changes the second message of the first chat."""
    response = tenant.api.patch(f"{tenant.path}/chats/1/messages/2", {"body": body}, format="json")
    assert response.status_code == 200, response.content


@pytest.fixture(autouse=True)
def slow_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test has written is recent until it ends, and its streams are not refused because they wait."""
    monkeypatch.setattr(live_streams, "RECENT", 3_600)
    monkeypatch.setattr(live_streams, "BEGIN_SECONDS", PATIENCE)


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often streams have read old events: `recent` for all of them, `pages` for one."""
    counted: Counter[str] = Counter()

    def counting(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def count(*arguments: Any) -> Any:
            counted[name] += 1
            return function(*arguments)

        return count

    for name in ("recent", "pages"):
        monkeypatch.setattr(live_streams, name, counting(name, getattr(catchup, name)))
    return counted


def test_what_was_written_lately_is_read_once_for_all_streams_that_come_back_to_a_new_process(
    ours: Tenant, theirs: Tenant, drained: Drain, read: Counter[str]
) -> None:
    # Given events that are stored, some of them edited since, and events that are only in the log,
    ours.chat()
    ours.chat()
    begin = [position_of(ours, "/chats")]
    for number in range(4):
        ours.message(1, f"stored {number}")
        begin.append(position_of(ours, "/chats"))
    ours.message(2, "of another chat")
    theirs.message(1, "theirs")
    drained()
    edit(ours, "edited")
    drained()
    ours.batch(1, [f"waiting {number}" for number in range(600)])
    expected = ["stored 0", "stored 2", "stored 3", "edited", *(f"waiting {number}" for number in range(600))]

    async def main() -> None:
        # when streams come back to a process that holds none of them, each from its own position,
        with new_process() as streams:
            clients = [Client(streams, ours, begin[1 + number % 3], frozenset([1])) for number in range(30)]
            of_application = Client(streams, ours, begin[0])
            everyone = [*clients, of_application]
            await until(lambda: all(client.stream.is_waiting for client in everyone))
            ours.message(1, "live")
            await until(lambda: all("live" in client.texts for client in everyone))

            # then each gets what it has missed, in order and once.
            for number, client in enumerate(clients):
                assert client.texts == [*expected[max(number % 3, 1) :], "live"]
            together = [*expected[:3], "of another chat", *expected[3:], "live"]
            assert of_application.texts == together
            for client in everyone:
                await client.end()

    asyncio.run(main())
    assert read == {"recent": 1}


def test_streams_read_for_themselves_what_is_older_or_more_than_that(
    ours: Tenant, drained: Drain, read: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given more recent events than a process takes in at once,
    monkeypatch.setattr(catchup, "MAX_RECENT", 3)
    ours.chat()
    begin = position_of(ours, "/chats")
    ours.batch(1, [f"stored {number}" for number in range(4)])
    drained()
    ours.batch(1, [f"waiting {number}" for number in range(4)])

    async def main() -> None:
        # when streams come back to a new process,
        with new_process() as streams:
            clients = [Client(streams, ours, begin) for _ in range(3)]
            await until(lambda: all(client.stream.is_waiting for client in clients))

            # then each gets what it has missed.
            for client in clients:
                assert client.texts == [f"{where} {number}" for where in ("stored", "waiting") for number in range(4)]
                await client.end()

    asyncio.run(main())
    assert read == {"recent": 1, "pages": 3}
    read.clear()
    monkeypatch.setattr(live_streams, "RECENT", 0)
    asyncio.run(main())
    assert read == {"pages": 3}


def test_recent_events_end_where_those_begin_that_the_process_holds(ours: Tenant, drained: Drain) -> None:
    # Given events that are stored, one of which was edited since, and others that are only in the log,
    ours.chat()
    begin = position_of(ours, "/chats")
    ends = []
    for number in range(8):
        ours.message(1, f"{number}")
        ends.append(position_of(ours, "/chats").arrival)
        if number == 3:
            drained()
        if number == 5:
            edit(ours, "edited")

    # when they are read for a process that holds all later ones, then none is missing and none comes twice.
    partition = partition_of(ours.token)
    found = [catchup.recent(partition, begin.term, begin.arrival, end) for end in ends]
    texts = [[event["data"]["body"] for event in as_json(b"".join(one.text for one in frames))] for frames in found]
    stored, waiting = ["0", "1", "2", "3"], ["4", "5", "edited", "6", "7"]
    assert texts == [stored[: number + 1] + waiting[: max(number - 3 + (number > 5), 0)] for number in range(8)]


def test_recent_events_that_were_taken_back_while_they_were_read_are_shown_to_nobody(
    ours: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a process that begins anew, at the same arrival, while it reads recent events,
    ours.chat()
    begin = position_of(ours, "/chats")
    ours.batch(1, ["one", "two"])

    async def main() -> None:
        with new_process() as streams:
            loop = asyncio.get_running_loop()
            partition = streams.backlog.claim(partition_of(ours.token))
            await until(lambda: partition.head is not None)

            def recent(number: int, term: int, after: int, base: int) -> list[Frame]:
                frames = catchup.recent(number, term, after, base)
                begun = threading.Event()
                update = Update(Position(term + 1, base), base, base=base)
                loop.call_soon_threadsafe(lambda: (partition.apply(update), begun.set()))
                begun.wait()
                return frames

            # when it has read them,
            monkeypatch.setattr(live_streams, "recent", recent)
            task = streams.recall(partition, begin)
            assert task is not None
            await task

            # then it holds none of them.
            assert not partition.order
            assert partition.standing(begin, token_hash(ours.token)) is not Standing.HELD

    asyncio.run(main())


def test_a_stream_that_may_have_shown_a_discarded_event_is_reset_by_a_new_process_too(
    ours: Tenant, theirs: Tenant, drained: Drain, state: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a dead event that a stream has shown, which was discarded, and a Redis that has lost its note of that,
    ours.chat()
    ours.batch(1, ["one", "two"])
    drained()
    with monkeypatch.context() as refusing:
        refusing.setattr("messages_app.persist.write", _refuse)
        edit(ours, "refused")
        drained()
    begin, of_theirs = position_of(ours, "/chats"), position_of(theirs, "/chats")
    dead_events.discard(DeadEvent.objects.get(), "somebody", "a test")
    state.delete(Keys(partition_of(ours.token)).withdrawn)
    ours.message(1, "three")
    theirs.message(1, "three")
    drained()

    async def main() -> None:
        # when it comes back to a new process,
        with new_process() as streams:
            client, other = Client(streams, ours, begin), Client(streams, theirs, of_theirs)
            await until(lambda: client.stream.is_waiting and other.stream.is_waiting)

            # then it is reset, and a stream of another application is not.
            assert (client.texts, other.texts) == (["reset"], ["three"])
            await client.end()
            await other.end()

    asyncio.run(main())


def _refuse(*arguments: object) -> None:
    raise DataError("refused")


def test_streams_that_wait_for_their_turn_send_heartbeats_end_when_told_and_give_their_turn_back(
    ours: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a slow database: each stream that reads old events waits for it,
    monkeypatch.setattr(live_streams, "RECENT", 0)
    answers = threading.Event()

    def slow(subject: Subject, position: Position) -> Iterator[Page]:
        answers.wait()
        yield from catchup.pages(subject, position)

    monkeypatch.setattr(live_streams, "pages", slow)
    ours.chat()
    begin = position_of(ours, "/chats")
    ours.batch(1, ["one", "two"])

    async def main() -> None:
        with new_process() as streams:
            try:
                clients = [Client(streams, ours, begin) for _ in range(3 * REPLAYING)]
                await until(lambda: all(client.stream.position for client in clients))

                # when the time for a heartbeat has come, then all of them send one,
                for client in clients:
                    client.stream.look(streams.loop.time() + HEARTBEAT + 1)
                # (and perhaps another one, if it has come again)
                await until(lambda: all(client.heartbeats for client in clients))
                assert {position for client in clients for position in client.heartbeats} == {begin}

                # when some are told to end, or lose their connections, among them some that have a turn,
                for client in clients[:2]:
                    client.task.cancel()
                for client in clients[2 : REPLAYING + 2]:
                    await client.end()
            finally:
                answers.set()

            # then the others get what they have missed.
            left = clients[REPLAYING + 2 :]
            await until(lambda: all(client.stream.is_waiting for client in left))
            for client in left:
                assert client.texts == ["one", "two"]
                await client.end()
            await until(lambda: streams.pages._value == REPLAYING)

    asyncio.run(main())
