"""Subscribers beside the clients of load.py. Documented in docs/reliability.md.

Each follows one application or some of its chats, as a stream, by long poll or with a ticket. It drops its connection
now and then, and continues from its last position when `retry:` says so. It writes down what it is shown (record.py).
deliveries.py compares that with what is stored.

They run in a process of their own, `python -m tests.faults.subscribers`, so that they do not slow down the clients.
Its standard input has two lines of JSON: the keyword arguments of `follow`, and then the last acknowledged version of
each chat, at which the subscribers end.
"""

from __future__ import annotations

import asyncio
import json
import random
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from tests.faults.record import AT, BEGIN, END, LISTS, REFUSED, RESET, SHOWN, SILENT, Record, arrival_of, digest, micros
from tests.support.product import BASE_DIR

STREAM, POLL, TICKET = "stream", "poll", "ticket"
WAYS = (STREAM, STREAM, POLL, TICKET)
#: Every fifth one follows the whole application. The others follow one chat, a ticket two.
OF_AN_APPLICATION = 5

#: Its standard output: each has read its lists, and follows what is acknowledged from here.
BEGUN = "begun\n"

#: Seconds after which a subscriber drops its connection, at most, if it does at all: two of three do. And those for
#: which it then stays away beyond `retry:`, at most, so that what it misses is stored meanwhile.
DROPS_WITHIN, STAYS_AWAY = 20.0, 5.0
#: Seconds without a byte, of which a heartbeat comes every 15 at least: longer than any fault holds up a process.
SILENCE = 60.0
#: Seconds for which a ticket is valid: its stream ends then.
TTL = 15
#: Seconds for which a poll waits, and until the next one after a poll without events.
WAIT, BETWEEN_POLLS = 5, 1.0
#: Seconds until a request that was not answered is repeated.
AGAIN = 0.5
#: Seconds for all of them to come to the end.
PATIENCE = 600.0


class Subscribers:
    """Starts them when it is created, and waits until each has begun. Call `finish` or `kill`."""

    def __init__(self, base: str, folder: Path, chats: Sequence[tuple[str, str]], count: int, seed: int) -> None:
        folder.mkdir()
        command = [sys.executable, "-m", "tests.faults.subscribers"]
        self.process = subprocess.Popen(command, cwd=BASE_DIR, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._say({"base": base, "folder": str(folder), "chats": chats, "count": count, "seed": seed})
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == BEGUN

    def finish(self, last: dict[str, str]) -> None:
        """Waits until each was shown the last version in its chats: path of a chat → last_request_time."""
        self._say(last)
        try:
            self.process.communicate(timeout=PATIENCE + 60)
        finally:
            self.kill()
        assert self.process.returncode == 0

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()

    def _say(self, what: object) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(what) + "\n")
        self.process.stdin.flush()


class Gone(Exception):
    """The connection has ended, or there is none."""


class Response:
    """A response whose body has not been read yet."""

    def __init__(self, status: int, headers: dict[str, str], reader: asyncio.StreamReader) -> None:
        self.status, self.headers, self.reader = status, headers, reader

    async def pieces(self) -> AsyncIterator[bytes]:
        """Raises `Gone` unless the body ends in order."""
        try:
            if self.headers.get("transfer-encoding", "").lower() == "chunked":
                while size := int(await self.reader.readline(), 16):
                    yield (await self.reader.readexactly(size + 2))[:-2]
            elif "content-length" in self.headers:
                yield await self.reader.readexactly(int(self.headers["content-length"]))
            else:
                while piece := await self.reader.read(65_536):
                    yield piece
        except (OSError, EOFError, ValueError):
            raise Gone from None

    async def json(self) -> Any:
        return json.loads(b"".join([piece async for piece in self.pieces()]))


class Connection:
    """One request, on a connection of its own."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.writer: asyncio.StreamWriter | None = None

    async def ask(self, method: str, path: str, content: object = None, *headers: str) -> Response:
        """Raises `Gone`."""
        lines = [f"{method} {path} HTTP/1.1", "Host: localhost", *headers]
        body = b"" if content is None else json.dumps(content).encode()
        if body:
            lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
        try:
            reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port)
            self.writer.write("\r\n".join([*lines, "", ""]).encode() + body)
            status = int((await reader.readline()).split()[1])
            found = {}
            while b":" in (line := await reader.readline()):
                name, _, value = line.decode().partition(":")
                found[name.lower()] = value.strip()
        except (OSError, EOFError, IndexError, ValueError):
            raise Gone from None
        return Response(status, found, reader)

    def abort(self) -> None:
        if self.writer is not None:
            self.writer.transport.abort()


class Subject(NamedTuple):
    """What a subscriber follows: an application, or these chats of it."""

    token: str
    chats: tuple[int, ...] | None


class Reading(NamedTuple):
    """What the lists of a subject have shown."""

    number: int
    began: float
    position: str


class Lists:
    """Reads lists as a client does that begins, or was reset.

    One reading at a time, which all share that asked for it before it began. Each has a file of its own.
    """

    def __init__(self, port: int, folder: Path, chats: Collection[str]) -> None:
        self.port, self.folder = port, folder
        #: Those that have messages.
        self.chats = chats
        self.lock = asyncio.Lock()
        self.readings: dict[Subject, Reading] = {}
        self.count = 0

    async def read(self, subject: Subject) -> Reading:
        asked = time.monotonic()
        async with self.lock:
            known = self.readings.get(subject)
            if known is None or known.began < asked:
                known = self.readings[subject] = await self._read(subject)
        return known

    async def _read(self, subject: Subject) -> Reading:
        began, position = time.monotonic(), ""
        self.count += 1
        with (self.folder / f"lists-{self.count}.jsonl").open("w") as file:
            for path in self._paths(subject):
                url: str | None = f"{path}?limit=1000"
                while url:
                    page, at = await self._page(url)
                    # That of the first page of the first list: everything else was read later.
                    position = position or at
                    for entity in page["results"]:
                        name = f"{path.rpartition('/')[0].rpartition('/')[2]}/" if "body" in entity else ""
                        text = entity["body"] if "body" in entity else entity["title"]
                        line = [f"{name}{entity['number']}", entity["last_request_time"], digest(text)]
                        file.write(json.dumps(line) + "\n")
                    following = page["next"] and urlsplit(page["next"])
                    url = following and f"{following.path}?{following.query}"
        return Reading(self.count, began, position)

    def _paths(self, subject: Subject) -> list[str]:
        base = f"/applications/{subject.token}/chats"
        of_it = [int(chat.partition("/")[2]) for chat in self.chats if chat.startswith(subject.token)]
        lists = [f"{base}/{chat}/messages" for chat in sorted(of_it) if subject.chats is None or chat in subject.chats]
        return [base, *lists] if subject.chats is None else lists

    async def _page(self, url: str) -> tuple[dict[str, Any], str]:
        while True:
            connection = Connection(self.port)
            with suppress(Gone, asyncio.TimeoutError):
                response = await asyncio.wait_for(connection.ask("GET", url), SILENCE)
                assert response.status in (200, 503), response.status
                if response.status == 200:
                    page = await asyncio.wait_for(response.json(), SILENCE)
                    connection.abort()
                    return page, response.headers["stream-position"]
            connection.abort()
            await asyncio.sleep(AGAIN)


class Subscriber:
    def __init__(self, port: int, lists: Lists, record: Record, subject: Subject, way: str, chance: random.Random):
        self.port, self.lists, self.record, self.subject, self.way = port, lists, record, subject, way
        self.chance = chance
        self.drops = chance.random() < 2 / 3
        self.position = ""
        #: Whether its lists have to be read before it goes on.
        self.is_stale = True
        #: Seconds after which it connects again, as the server has told.
        self.retry = 1.0
        #: The arrival at which it ends, and whether it has.
        self.last: int | None = None
        self.ended = False
        self.connection: Connection | None = None
        self.begun = asyncio.Event()

    async def run(self) -> None:
        while not self.ended:
            await self._refresh()
            self.heard_at = time.monotonic()
            self.drops_at = self.heard_at + self.chance.uniform(0, DROPS_WITHIN) if self.drops else None
            self.connection = Connection(self.port)
            try:
                pause = await (self._poll() if self.way == POLL else self._stream())
            except Gone:
                pause = self.retry + (self.chance.uniform(0, STAYS_AWAY) if self.drops else 0.0)
            self.connection.abort()
            if not self.ended:
                await asyncio.sleep(pause)
        self.record.write(END, self.position)

    def look(self, now: float) -> None:
        """Drops the connection when it is time to, or when nothing comes."""
        if self.connection is None or self.is_stale:
            return
        if now - self.heard_at > SILENCE:
            self.record.write(SILENT, self.position)
            self.heard_at = now
            self.connection.abort()
        elif self.drops_at and now > self.drops_at:
            self.drops_at = None
            self.connection.abort()

    def end_at(self, last: int) -> None:
        self.last = last
        self._move(self.position)

    async def _refresh(self) -> None:
        """Reads the lists when it begins, and after a reset."""
        if not self.is_stale:
            return
        reading = await self.lists.read(self.subject)
        if not self.position:
            self.record.write(BEGIN, reading.position, self.subject.token, self.subject.chats)
            self._move(reading.position)
            self.begun.set()
        self.record.write(LISTS, self.position, reading.number)
        self.is_stale = False
        self.heard_at = time.monotonic()
        self._move(self.position)

    async def _stream(self) -> float:
        response = await self._ask(await self._path(), "Accept: text/event-stream", f"Last-Event-ID: {self.position}")
        if response.status != 200:
            # A ticket is too old when the clock was set.
            if response.status != 401 or self.way != TICKET:
                self.record.write(REFUSED, self.position, response.status)
            return self.retry
        rest = b""
        async for piece in response.pieces():
            self.heard_at = time.monotonic()
            *frames, rest = (rest + piece).split(b"\n\n")
            for frame in frames:
                self._take(frame)
                if self.ended:
                    return 0.0
                await self._refresh()
        return self.retry

    def _take(self, frame: bytes) -> None:
        fields = dict(line.split(": ", 1) for line in frame.decode().split("\n"))
        if "retry" in fields:
            self.retry = int(fields["retry"]) / 1000
        if "data" in fields:
            self._show(fields["event"], fields["id"], json.loads(fields["data"]))
        elif "id" in fields:
            self.record.write(AT, fields["id"])
            self._move(fields["id"])

    async def _poll(self) -> float:
        path = f"{await self._path()}?after={self.position}&wait={WAIT}"
        response = await self._ask(path, "Accept: application/json")
        if response.status != 200:
            if response.status != 503 or "retry-after" not in response.headers:
                self.record.write(REFUSED, self.position, response.status)
            return AGAIN
        page = await response.json()
        for event in page["events"]:
            self._show(event["event"], event["id"], event["data"])
            await self._refresh()
        self.record.write(AT, page["position"])
        self._move(page["position"])
        # There may be more.
        return 0.0 if page["events"] else BETWEEN_POLLS

    async def _path(self) -> str:
        token, chats = self.subject
        if self.way == TICKET:
            wanted = {"ttl": TTL} if chats is None else {"ttl": TTL, "chats": chats}
            response = await self._ask(f"/applications/{token}/tickets", content=wanted)
            if response.status >= 500:
                raise Gone
            assert response.status == 201, response.status
            ticket = (await response.json())["ticket"]
            self._connection.abort()
            return f"/events?ticket={ticket}"
        return f"/applications/{token}/events" if chats is None else f"/applications/{token}/chats/{chats[0]}/events"

    @property
    def _connection(self) -> Connection:
        assert self.connection is not None
        return self.connection

    async def _ask(self, path: str, *headers: str, content: object = None) -> Response:
        response = await self._connection.ask("GET" if content is None else "POST", path, content, *headers)
        self.heard_at = time.monotonic()
        return response

    def _show(self, event: str, position: str, data: dict[str, Any]) -> None:
        if event == "reset":
            self.record.write(RESET, position)
            self.is_stale = True
        else:
            path = f"{data['chat_number']}/{data['number']}" if event == "message" else f"{data['number']}"
            text = data["body"] if event == "message" else data["title"]
            self.record.write(SHOWN, position, path, data["last_request_time"], digest(text))
        self._move(position)

    def _move(self, position: str) -> None:
        self.position = position
        if self.last is not None and position and arrival_of(position) >= self.last and not self.is_stale:
            self.ended = True
            if self.connection is not None:
                self.connection.abort()


async def follow(base: str, folder: str, chats: Sequence[tuple[str, str]], count: int, seed: int) -> None:
    port = urlsplit(base).port or 80
    lists = Lists(port, Path(folder), [chat for _, chat in chats])
    subscribers = []
    for number in range(count):
        way, chance = WAYS[number % len(WAYS)], random.Random(f"{seed} {number}")
        record = Record(Path(folder) / f"subscriber-{number}.jsonl")
        subscribers.append(Subscriber(port, lists, record, subject_of(number, way, chats), way, chance))
    running = [asyncio.ensure_future(subscriber.run()) for subscriber in subscribers]
    looking = asyncio.ensure_future(_look(subscribers))
    await asyncio.wait([asyncio.ensure_future(one.begun.wait()) for one in subscribers], timeout=PATIENCE)
    print(BEGUN, end="", flush=True)
    line = await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
    if line:
        last = {path: micros(at) for path, at in json.loads(line).items()}
        for one in subscribers:
            token, of_it = one.subject
            wanted = [at for path, at in last.items() if path.startswith(token)]
            if of_it is not None:
                wanted = [last[f"{token}/{chat}"] for chat in of_it]
            one.end_at(max(wanted))
        await asyncio.wait(running, timeout=PATIENCE)
    looking.cancel()
    for task in running:
        if task.done():
            task.result()
        task.cancel()
    for one in subscribers:
        one.record.close()


def subject_of(number: int, way: str, chats: Sequence[tuple[str, str]]) -> Subject:
    """Distributes the subscribers over the chats."""
    token, first = chats[number % len(chats)]
    if number % OF_AN_APPLICATION == 0:
        return Subject(token, None)
    others = [chat for owner, chat in chats if owner == token and chat != first]
    of_it = [first, *others] if way == TICKET else [first]
    return Subject(token, tuple(int(chat.partition("/")[2]) for chat in of_it[:2]))


async def _look(subscribers: Sequence[Subscriber]) -> None:
    while True:
        await asyncio.sleep(0.5)
        for subscriber in subscribers:
            subscriber.look(time.monotonic())


if __name__ == "__main__":
    asyncio.run(follow(**json.loads(sys.stdin.readline())))
