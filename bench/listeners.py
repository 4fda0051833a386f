"""The client of the stream benchmarks: holds thousands of streams, posts, and notes when each event arrives.

`Listeners` runs it as a process of its own. It is one loop over epoll without a parser: it searches the bytes for the
marks that it has posted, and looks neither at JSON nor at the framing of HTTP. So it costs a few microseconds for each
piece that arrives, of any server that sends `\\n\\n` after each event.
"""

from __future__ import annotations

import contextlib
import gc
import heapq
import json
import os
import re
import resource
import select
import signal
import socket
import struct
import subprocess
import sys
import time
from array import array
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from chatsystem.embedded.parent_death import end_with_parent

#: A mark in a text: the number of the post, of a fixed length.
MARK = "~%010d~"
MARKS = re.compile(rb"~(\d{10})~")
CHUNK = re.compile(rb"\r\n[0-9a-f]+\r\n")
RETRY = re.compile(rb"retry: (\d+)")
POSITION = re.compile(rb"(?:^|\n)id: (\S+)\n")
#: Connections that post, and streams that are being opened at once.
POSTERS, OPENING = 16, 500
#: Bytes that are read at once.
PIECE = 256 * 1024
#: Seconds for a stream to begin, and for everything posted to arrive, at most.
PATIENCE = 30.0
#: Seconds for which posts go on after all streams have come back.
AFTERWARDS = 1.0
#: Files that the process needs beside its streams.
OTHER_FILES = 100
#: Closes a connection at once, as a network does that is cut.
RESET = struct.pack("ii", 1, 0)


@dataclass(frozen=True, slots=True)
class Plan:
    """What to open, and what to post."""

    port: int
    #: A request's path and headers, and how often it is opened.
    streams: Sequence[tuple[str, int]]
    #: What a stream's first event contains.
    begun: str
    #: Path, headers and body, with a mark, of what is posted in turn. Post N goes to the streams of number N modulo.
    posts: Sequence[tuple[str, str]] = ()
    rate: float = 0.0
    seconds: float = 0.0
    #: Whether all streams are cut off after these seconds. Posts go on until all have come back.
    cut: bool = False


@dataclass(frozen=True, slots=True)
class Heard:
    """Figures of a plan. Times are in milliseconds."""

    posts: int
    refused: int
    deliveries: int
    #: Events that a stream lacked or got twice, and streams that ended by themselves.
    missing: int
    doubled: int
    ended: int
    #: From when a post was due, and from when it was acknowledged, until a stream got its event.
    from_post_p99: float
    from_ack_p50: float
    from_ack_p99: float
    #: Of the posts before and after the cut.
    post_p99: float
    post_p99_after: float
    #: From the cut until the last stream had its first event.
    back: float
    #: The share of a core that this process took while it posted.
    core: float


class Listeners:
    """The client as a process. Streams are open when the block begins."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan

    def __enter__(self) -> Listeners:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "bench.listeners"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parent.parent,
            preexec_fn=partial(end_with_parent, signal.SIGKILL, parent=os.getpid()),
        )
        self._say(json.dumps(asdict(self.plan)))
        self.expect("open")
        return self

    def __exit__(self, *error: object) -> None:
        self.process.kill()
        self.process.wait()
        for end in (self.process.stdin, self.process.stdout):
            assert end
            end.close()

    def _say(self, line: str) -> None:
        assert self.process.stdin
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def _line(self) -> str:
        assert self.process.stdout
        line = self.process.stdout.readline()
        if not line:
            raise AssertionError(f"the client ended with {self.process.wait()}")
        return line.rstrip("\n")

    def expect(self, phase: str) -> None:
        """Waits until the client is there. One that posts then waits for `go_on`."""
        line = self._line()
        assert line == phase, line

    def go_on(self) -> None:
        self._say("")

    def deliveries(self) -> int:
        """Returns how many events have arrived, where others post."""
        self.go_on()
        return int(self._line())

    def heard(self) -> Heard:
        """Waits until it has posted and heard everything."""
        return Heard(**json.loads(self._line()))


def hear(plan: Plan) -> Heard:
    """Opens the streams, posts, and returns the figures."""
    with Listeners(plan) as listeners:
        listeners.go_on()
        return listeners.heard()


# The process ----------------------------------------------------------------------------------------------------------


class Stream:
    """Counts what arrived. The sum of the posts' numbers shows that they were these and no others."""

    __slots__ = ("back", "begun", "count", "kind", "last", "rest", "retry", "socket", "squares", "sum")

    #: Once it is opened.
    socket: socket.socket

    def __init__(self, kind: int) -> None:
        self.kind = kind
        self.begun = False
        self.count = self.sum = self.squares = 0
        self.rest = self.last = b""
        self.retry = 1.0
        self.back = 0.0


class Poster:
    """A connection that is kept alive."""

    __slots__ = ("answer", "number", "sent", "socket")

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.answer = b""
        self.number = -1
        self.sent = 0.0


class Process:
    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.epoll = select.epoll()
        self.found: dict[int, Stream | Poster] = {}
        self.buffer = memoryview(bytearray(PIECE))
        self.begun_mark = plan.begun.encode()
        self.streams = [
            Stream(kind) for kind, count in enumerate(count for _, count in plan.streams) for _ in range(count)
        ]
        self.to_open: deque[Stream] = deque(self.streams)
        self.opening = 0
        #: Streams that were cut off, with the time at which they come back.
        self.away: list[tuple[float, int, Stream]] = []
        self.ended = 0
        self.cut_at = 0.0
        self.waiting_back = 0
        #: The longest idle one is next, so that the server closes none of them for its silence.
        self.idle: deque[Poster] = deque()
        #: Of each post: when it was due, when it was acknowledged, and the milliseconds until that.
        self.due = array("d")
        self.acknowledged = array("d")
        self.took = array("d")
        self.accepted = array("b")
        self.answered = 0
        #: Of each event: the number of its post, and when it arrived.
        self.events = array("q")
        self.arrived = array("d")
        self.deliveries = 0

    # Streams

    def open_all(self) -> None:
        until = time.monotonic() + PATIENCE + len(self.streams) / 100
        while self.to_open or self.opening:
            self._open_some()
            self.poll(0.1)
            if time.monotonic() > until:
                raise SystemExit(f"{len(self.to_open) + self.opening} streams did not begin")

    def _open_some(self) -> None:
        while self.to_open and self.opening < OPENING:
            self._open(self.to_open.popleft())

    def _open(self, stream: Stream) -> None:
        stream.socket = connection = socket.socket()
        # Connecting to this machine does not wait for the server's process.
        connection.connect(("127.0.0.1", self.plan.port))
        head = self.plan.streams[stream.kind][0]
        found = POSITION.findall(stream.last)
        if found:
            head += f"Last-Event-ID: {found[-1].decode()}\r\n"
        connection.sendall(f"{head}\r\n".encode())
        connection.setblocking(False)
        stream.begun = False
        stream.rest = b""
        self.opening += 1
        self.found[connection.fileno()] = stream
        self.epoll.register(connection.fileno(), select.EPOLLIN)

    def _close(self, stream: Stream) -> None:
        self.epoll.unregister(stream.socket.fileno())
        del self.found[stream.socket.fileno()]
        stream.socket.close()
        if not stream.begun:
            self.opening -= 1

    def _hear(self, stream: Stream) -> None:
        try:
            size = stream.socket.recv_into(self.buffer)
        except BlockingIOError:
            return
        except ConnectionError:
            size = 0
        if not size:
            self._end(stream)
            return
        now = time.monotonic()
        piece = stream.rest + self.buffer[:size] if stream.rest else bytes(self.buffer[:size])
        end = piece.rfind(b"\n\n") + 2
        if end < 2:
            stream.rest = piece
            return
        # Chunks of HTTP end with two more bytes, which the next piece may as well begin with.
        stream.rest = piece[end:] if len(piece) - end != 2 else b""
        if not stream.begun:
            if retry := RETRY.search(piece):
                stream.retry = int(retry[1]) / 1_000
            # A stream that is opened again receives nothing until there is a new event.
            if not stream.last and self.begun_mark not in piece:
                return
            stream.begun = True
            self.opening -= 1
        if end < len(piece):
            piece = piece[:end]
        marks = MARKS.findall(piece)
        if piece.count(b"~") != 2 * len(marks):
            # The head of a chunk lies within a mark.
            marks = MARKS.findall(CHUNK.sub(b"", piece))
        if marks or not stream.last:
            stream.last = piece
        for mark in marks:
            number = int(mark)
            stream.count += 1
            stream.sum += number
            stream.squares += number * number
            self.events.append(number)
            self.arrived.append(now)
        self.deliveries += len(marks)
        if marks and self.waiting_back and not stream.back:
            stream.back = now
            self.waiting_back -= 1

    def _end(self, stream: Stream) -> None:
        """It comes back after the time that the server has told, as EventSource does."""
        begun = stream.begun
        self._close(stream)
        if begun and not self.waiting_back:
            self.ended += 1
        self._come_back(stream)

    def _come_back(self, stream: Stream) -> None:
        heapq.heappush(self.away, (time.monotonic() + stream.retry, id(stream), stream))

    def cut(self) -> None:
        """Cuts off all streams at once."""
        self.waiting_back = len(self.streams)
        for stream in self.streams:
            stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            self._close(stream)
        self.cut_at = time.monotonic()
        for stream in self.streams:
            self._come_back(stream)

    # Posts

    def connect_posters(self) -> None:
        for _ in range(POSTERS):
            self._connect_poster()
        self.templates = []
        for head, body in self.plan.posts:
            before, after = body.split(MARK)
            length = len(before.encode()) + len(MARK % 0) + len(after.encode())
            start = f"{head}Content-Length: {length}\r\n\r\n{before}"
            self.templates.append((start.encode(), after.encode()))

    def _connect_poster(self) -> None:
        poster = Poster(self.plan.port)
        poster.socket.setblocking(False)
        self.found[poster.socket.fileno()] = poster
        self.epoll.register(poster.socket.fileno(), select.EPOLLIN)
        self.idle.append(poster)

    def post_until(self, finished: Callable[[], bool]) -> None:
        """Posts at the rate, whatever the server takes for it, until it is finished."""
        pace, due = 1 / self.plan.rate, time.monotonic()
        while not finished():
            now = time.monotonic()
            while due <= now and self.idle:
                self._post(self.idle.popleft(), due)
                due += pace
            self.poll(min(0.05, max(0.0, due - now)) if self.idle else 0.05)

    def _post(self, poster: Poster, due: float) -> None:
        poster.number = number = len(self.due)
        before, after = self.templates[number % len(self.templates)]
        self.due.append(due)
        self.acknowledged.append(0.0)
        self.took.append(0.0)
        self.accepted.append(0)
        poster.sent = time.monotonic()
        poster.socket.send(before + (MARK % number).encode() + after)

    def _answered(self, poster: Poster) -> None:
        piece = poster.socket.recv(65_536)
        now = time.monotonic()
        if not piece:
            if poster not in self.idle:
                raise SystemExit("a connection was closed before its post was answered")
            self.idle.remove(poster)
            self.epoll.unregister(poster.socket.fileno())
            del self.found[poster.socket.fileno()]
            poster.socket.close()
            self._connect_poster()
            return
        poster.answer += piece
        head, found, body = poster.answer.partition(b"\r\n\r\n")
        if not found:
            return
        length = re.search(rb"(?i)content-length: (\d+)", head)
        assert length, head
        if len(body) < int(length[1]):
            return
        number = poster.number
        self.acknowledged[number] = now
        self.took[number] = now - poster.sent
        self.accepted[number] = head.startswith((b"HTTP/1.1 200", b"HTTP/1.1 201"))
        self.answered += 1
        poster.answer = b""
        self.idle.append(poster)

    # Both

    def poll(self, timeout: float) -> None:
        for descriptor, _ in self.epoll.poll(timeout):
            one = self.found.get(descriptor)
            if one is None:
                continue
            if isinstance(one, Stream):
                self._hear(one)
            else:
                self._answered(one)
        if self.away:
            now = time.monotonic()
            while self.away and self.away[0][0] <= now:
                self.to_open.append(heapq.heappop(self.away)[2])
        if self.to_open:
            self._open_some()

    def run(self) -> Heard:
        self.connect_posters()
        processor, began = time.process_time(), time.monotonic()
        end = began + self.plan.seconds
        self.post_until(lambda: time.monotonic() >= end)
        if self.plan.cut:
            meet("cut")
            self.cut()
            limit = self.cut_at + PATIENCE
            self.post_until(lambda: not self.waiting_back or time.monotonic() > limit)
            until = time.monotonic() + AFTERWARDS
            self.post_until(lambda: time.monotonic() >= until)
        core = (time.process_time() - processor) / (time.monotonic() - began)
        self._wait_for_the_rest()
        if self.plan.cut:
            meet("back")
        return self._figures(core)

    def _wait_for_the_rest(self) -> None:
        kinds = self._expected()
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            if self.answered == len(self.due):
                kinds = self._expected()
                if all(stream.count >= kinds[stream.kind][0] for stream in self.streams):
                    return
            self.poll(0.05)

    def _expected(self) -> list[tuple[int, int, int]]:
        """Returns the number, the sum and the sum of squares of the accepted posts, by kind of stream."""
        kinds = []
        for kind in range(len(self.plan.streams)):
            numbers = range(kind, len(self.due), len(self.plan.streams))
            accepted = [number for number in numbers if self.accepted[number]]
            kinds.append((len(accepted), sum(accepted), sum(number * number for number in accepted)))
        return kinds

    def _figures(self, core: float) -> Heard:
        kinds = self._expected()
        missing = doubled = 0
        for stream in self.streams:
            count, total, squares = kinds[stream.kind]
            if (stream.count, stream.sum, stream.squares) != (count, total, squares):
                # At least one, where as many are missing as came twice.
                missing += max(count - stream.count, int(count == stream.count))
                doubled += max(stream.count - count, int(count == stream.count))
        due, acknowledged, took = (np.array(one) for one in (self.due, self.acknowledged, self.took))
        accepted = np.array(self.accepted, bool)
        numbers, arrived = np.array(self.events), np.array(self.arrived)
        after = due >= self.cut_at if self.cut_at else np.zeros(len(due), bool)
        last_back = max((stream.back for stream in self.streams), default=0.0)
        during = after & (due <= last_back)
        return Heard(
            posts=len(due),
            refused=int((~accepted).sum()),
            deliveries=self.deliveries,
            missing=missing,
            doubled=doubled,
            ended=self.ended,
            from_post_p99=_percentile(arrived - due[numbers], 99),
            from_ack_p50=_percentile(np.maximum(arrived - acknowledged[numbers], 0), 50),
            from_ack_p99=_percentile(np.maximum(arrived - acknowledged[numbers], 0), 99),
            post_p99=_percentile(took[~after], 99),
            post_p99_after=_percentile(took[during], 99),
            back=1_000 * (last_back - self.cut_at) if self.cut_at else 0.0,
            core=core,
        )


def _percentile(seconds: Any, share: float) -> float:
    return 1_000 * float(np.percentile(seconds, share)) if len(seconds) else 0.0


def meet(phase: str) -> None:
    """Prints the next phase, and waits until the parent process is ready for it."""
    print(phase, flush=True)
    if not sys.stdin.readline():
        sys.exit()


def raise_file_limit(streams: int) -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most < streams + OTHER_FILES:
        raise SystemExit(f"{streams:,} streams need `ulimit -Hn {streams + OTHER_FILES}`; it is {most}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def main() -> None:
    plan = Plan(**json.loads(sys.stdin.readline()))
    raise_file_limit(sum(count for _, count in plan.streams))
    process = Process(plan)
    gc.disable()
    process.open_all()
    if plan.posts:
        meet("open")
        print(json.dumps(asdict(process.run())), flush=True)
        return
    print("open", flush=True)
    while True:
        process.poll(0.05)
        if select.select([sys.stdin], [], [], 0)[0]:
            if not sys.stdin.readline():
                return
            print(process.deliveries, flush=True)


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError):
        main()
