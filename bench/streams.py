"""The benchmarks of streams. Documented in docs/benchmarks.md."""

from __future__ import annotations

import json
import math
import re
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch
from urllib.parse import quote

import requests

from bench import running
from bench.centrifugo import NAME, Centrifugo
from bench.listeners import MARK, Heard, Listeners, Plan, hear
from bench.rounds import KILOBYTES, MILLISECONDS, PER_SECOND, Measure, Round, alternating
from bench.stack import APPLICATIONS, LIVE, MANY_APPLICATIONS, PATIENCE, WORKER, ProductSide, Stack, posts, resident
from bench.wrk import Request
from tests.support.product import children, eventually, kill, processes, sockets

#: Of the highest rate: the streams of the one chat, and the delay that 99 % of the deliveries have at most.
LISTENERS, MAX_DELAY = 1_000, 250.0
#: Where the search for the highest rate begins, in posts a second, and how often it halves its step.
FIRST_RATE, HALVINGS = 64.0, 3
#: Of the delay: chats with LISTENERS streams together, and posts a second.
CHATS, DELAY_RATE = 100, 50.0
IDLE, IDLE_CHATS = 5_000, 50
#: Streams of the application that warms a fresh process up.
FIRST_STREAMS = 50
#: Seconds after which every idle stream has had a heartbeat.
HEARTBEATS = 16
CUT, CUT_RATE = 2_000, 100.0
#: Messages in a request of the backlog that is replayed.
PIECE = 1_000
#: Characters of a text, as in the chat log of docs/capacity.md.
LENGTH = 58
TEXT = MARK + "x" * (LENGTH - len(MARK % 0))
#: Drains of a round, of a message of each application.
DRAINS = 10


# Both sides -----------------------------------------------------------------------------------------------------------


def _head(method: str, path: str, *headers: str) -> str:
    return "".join(f"{line}\r\n" for line in (f"{method} {path} HTTP/1.1", "Host: localhost", *headers))


def _stream(chat: str) -> str:
    return _head("GET", f"{chat}/events", "Accept: text/event-stream")


def _post(path: str, body: object) -> tuple[str, str]:
    return _head("POST", path, "Content-Type: application/json"), json.dumps(body)


def _ours(
    side: ProductSide, chats: Sequence[str], streams: int, rate: float, seconds: float, *, cut: bool = False
) -> Plan:
    """Opens streams, as many of each chat, and posts to the chats in turn."""
    return Plan(
        port=side.product.port,
        streams=[(_stream(chat), streams // len(chats)) for chat in chats],
        begun="id: ",
        posts=[_post(f"{chat}/messages", {"body": TEXT}) for chat in chats],
        rate=rate,
        seconds=seconds,
        cut=cut,
    )


def _theirs(node: Centrifugo, chats: int, streams: int, rate: float, seconds: float) -> Plan:
    """The same with Centrifugo's channels, and publications that contain what our events do."""
    moment = "2026-11-29T12:00:00.000000Z"
    names = [f"chat-{number}" for number in range(chats)]
    paths = [f"/connection/uni_sse?cf_connect={quote(json.dumps({'subs': {name: {}}}))}" for name in names]
    data = {"chat_number": 1, "number": 1, "body": TEXT, "created_at": moment, "last_request_time": moment}
    return Plan(
        port=node.port,
        streams=[(_head("GET", path, "Accept: text/event-stream"), streams // chats) for path in paths],
        begun="data: ",
        posts=[_post("/api/publish", {"channel": name, "data": data}) for name in names],
        rate=rate,
        seconds=seconds,
    )


def _complete(heard: Heard) -> Heard:
    assert heard.missing == heard.doubled == 0, f"{heard.missing} events missing, {heard.doubled} doubled"
    return heard


# Against Centrifugo ---------------------------------------------------------------------------------------------------


def deliveries(stack: Stack) -> list[Measure]:
    """Searches the highest rate of posts whose events reach all streams of the chat in time."""
    side, node = stack.product, stack.centrifugo
    name = f"deliveries to {LISTENERS:,} streams of a chat at p99 ≤ {MAX_DELAY:.0f} ms"
    measure = Measure(name, PER_SECOND, 0.5, reference=NAME) if node else Measure(name, PER_SECOND, 0)
    seconds = stack.scale.seconds
    (chat,) = side.open_chats(1, 1)

    def ours(rate: float) -> bool:
        side.wait_until_settled()
        return _in_time(stack, side.database, rate, _complete(hear(_ours(side, [chat], LISTENERS, rate, seconds))))

    def theirs(rate: float) -> bool:
        assert node
        return _in_time(stack, NAME, rate, hear(_theirs(node, 1, LISTENERS, rate, seconds)))

    first, last = [FIRST_RATE], [FIRST_RATE]

    def most(accepts: Callable[[float], bool], start: list[float]) -> float:
        rate = _highest(accepts, start[0])
        start[0] = rate or 1.0
        return rate * LISTENERS

    for turn in range(stack.scale.rounds):
        if node:
            pair = alternating(turn, lambda: most(ours, first), lambda: most(theirs, last))
            measure.rounds.append(Round(*pair))
        else:
            measure.rounds.append(Round(most(ours, first)))
    side.wait_until_settled()
    return [measure]


def _in_time(stack: Stack, name: str, rate: float, heard: Heard) -> bool:
    whole = not (heard.missing or heard.doubled or heard.ended or heard.refused)
    stack.say(
        f"{name}: {rate:.0f} posts/s, {heard.deliveries:,} deliveries, p99 {heard.from_post_p99:.0f} ms"
        f"{'' if whole else ', incomplete'}; the client took {heard.core:.0%} of a core"
    )
    return whole and heard.from_post_p99 <= MAX_DELAY


def _highest(accepts: Callable[[float], bool], start: float) -> float:
    """Returns a rate that is accepted, while one that is a tenth higher was not. 0.0 if not even one a second is."""
    rate, step = start, 2.0
    if accepts(rate):
        while accepts(rate * step):
            rate *= step
    else:
        rate /= step
        while not accepts(rate):
            rate /= step
            if rate < 1:
                return 0.0
    for _ in range(HALVINGS):
        step = math.sqrt(step)
        if accepts(rate * step):
            rate *= step
    return rate


def delay(stack: Stack) -> list[Measure]:
    side, node = stack.product, stack.centrifugo
    seconds = max(stack.scale.long_seconds // 3, 1)
    what = f"→ event received, p99 at {DELAY_RATE:.0f} posts/s, {LISTENERS:,} streams"
    measure = Measure(f"POST acknowledged {what}", MILLISECONDS, 100, at_least=False)
    beside = Measure(f"{NAME}: published {what}", MILLISECONDS, 0)
    chats = side.open_chats(1, CHATS)

    def ours() -> float:
        heard = _complete(hear(_ours(side, chats, LISTENERS, DELAY_RATE, seconds)))
        stack.say(f"{side.database}: event after {heard.from_ack_p50:.1f} ms, p99 {heard.from_ack_p99:.1f} ms")
        return heard.from_ack_p99

    def theirs() -> float:
        if not node:
            return 0.0
        heard = _complete(hear(_theirs(node, CHATS, LISTENERS, DELAY_RATE, seconds)))
        stack.say(f"{NAME}: event after {heard.from_ack_p50:.1f} ms, p99 {heard.from_ack_p99:.1f} ms")
        return heard.from_ack_p99

    for turn in range(stack.scale.rounds):
        one, other = alternating(turn, ours, theirs)
        measure.rounds.append(Round(one))
        beside.rounds.append(Round(other))
    return [measure, beside] if node else [measure]


# The live process -----------------------------------------------------------------------------------------------------


def _worker(side: ProductSide) -> int:
    """Returns the process that has the streams."""
    (main,) = side.product.mains(LIVE)
    eventually(lambda: len(children(main)) == 1)
    return children(main).pop()


def _renew(side: ProductSide) -> int:
    """Replaces the live process by one that has read nothing. Returns its id."""
    (chat,) = side.open_chats(1, 1)
    former = _worker(side)
    kill(former)
    eventually(lambda: _worker(side) != former)
    answers = {"Accept": "application/json"}
    eventually(lambda: requests.get(f"{side.url}{chat}/events?wait=0", headers=answers, timeout=30).status_code == 200)
    return _worker(side)


def idle(stack: Stack) -> list[Measure]:
    side = stack.product
    measure = Measure(f"memory of each of {IDLE:,} idle streams", KILOBYTES, 20, at_least=False)
    pid = _renew(side)
    warm = _ours(side, side.open_chats(1, 1), FIRST_STREAMS, DELAY_RATE, 1)
    hear(warm)
    before = resident(pid)
    chats = side.open_chats(1, IDLE_CHATS)
    with Listeners(Plan(side.product.port, [(_stream(chat), IDLE // len(chats)) for chat in chats], "id: ")):
        time.sleep(HEARTBEATS)
        after = resident(pid)
    assert _worker(side) == pid, "the live process was replaced"
    stack.say(f"the live process: {before / 1e6:.1f} MB, with {IDLE:,} streams {after / 1e6:.1f} MB")
    measure.rounds.append(Round((after - before) / IDLE / 1e3))
    return [measure]


def cut(stack: Stack) -> list[Measure]:
    side = stack.product
    queries = Measure(f"SQL queries while {CUT:,} streams come back", "", 0, at_least=False)
    p99 = Measure(f"POST, p99 while {CUT:,} streams come back", MILLISECONDS, 0, reference="before")
    total = 0
    for _ in range(stack.scale.rounds):
        pid = _renew(side)
        plan = _ours(side, side.open_chats(), CUT, CUT_RATE, 2 * stack.scale.seconds, cut=True)
        with ExitStack() as closing:
            with _queries(stack, pid) as first:
                listeners = closing.enter_context(Listeners(plan))
            assert sum(first), "queries are not counted: streams of unknown chats ask the database"
            listeners.go_on()
            listeners.expect("cut")
            with _queries(stack, pid) as meanwhile:
                listeners.go_on()
                listeners.expect("back")
            listeners.go_on()
            heard = _complete(listeners.heard())
        assert _worker(side) == pid, "the live process was replaced"
        total += sum(meanwhile)
        p99.rounds.append(Round(heard.post_p99_after, heard.post_p99))
        stack.say(
            f"{CUT:,} streams cut, all back after {heard.back / 1e3:.1f} s and complete, {sum(meanwhile)} queries"
            f" (their first opening: {sum(first)});"
            f" POST p99 {heard.post_p99_after:.1f} ms, before {heard.post_p99:.1f} ms"
        )
    queries.rounds.append(Round(total))
    return [queries, p99]


@contextmanager
def _queries(stack: Stack, pid: int) -> Iterator[list[int]]:
    """Counts the statements that a process sends to the database during the block."""
    found: list[int] = []
    ids = _connections(stack, pid)
    log = "mysql.general_log"
    stack.server.execute("SET GLOBAL log_output = 'TABLE'", f"TRUNCATE {log}", "SET GLOBAL general_log = 1")
    try:
        yield found
        # Also those that were opened meanwhile. They stay open longer than this takes.
        ids |= _connections(stack, pid)
    finally:
        stack.server.execute("SET GLOBAL general_log = 0")
    among = ", ".join(map(str, ids)) or "0"
    counted = f"SELECT COUNT(*) FROM {log} WHERE thread_id IN ({among}) AND command_type IN ('Query', 'Execute')"
    ((count,),) = stack.server.execute(counted)
    found.append(int(count))


def _connections(stack: Stack, pid: int) -> set[int]:
    """Returns the ids of the process's connections to the database."""
    inodes = sockets({pid})
    ports = set()
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        local, remote, inode = (line.split()[column] for column in (1, 2, 9))
        if inode in inodes and int(remote.rpartition(":")[2], 16) == stack.server.port:
            ports.add(str(int(local.rpartition(":")[2], 16)))
    rows = stack.server.execute("SELECT ID, HOST FROM information_schema.PROCESSLIST")
    return {id for id, host in rows if host.rpartition(":")[2] in ports}


def replay(stack: Stack) -> list[Measure]:
    side, events = stack.product, stack.scale.backlog // 2
    measure = Measure(f"replay of {events:,} events", PER_SECOND, 10_000)
    (chat,) = side.open_chats(1, 1)
    begin = requests.get(f"{side.url}{chat}/messages", timeout=30).headers["Stream-Position"]
    bodies = stack.texts.first(PIECE)
    for _ in range(events // PIECE):
        side.client.create_messages(chat.split("/")[2], 1, bodies)
    side.wait_until_settled()
    # It may have read them for streams of the same partition.
    _renew(side)
    for _ in range(stack.scale.rounds):
        took = _replayed(side, chat, begin, events)
        stack.say(f"{events:,} events replayed in {took:.1f} s")
        measure.rounds.append(Round(events / took))
    return [measure]


def _replayed(side: ProductSide, chat: str, begin: str, events: int) -> float:
    """Returns the seconds that it took."""
    received, last = bytearray(), f'"number":{events},'.encode()
    with socket.create_connection(("127.0.0.1", side.product.port), timeout=PATIENCE) as client:
        began = time.monotonic()
        client.sendall(f"{_stream(chat)}Last-Event-ID: {begin}\r\n\r\n".encode())
        while last not in received[-100_000:]:
            piece = client.recv(1_000_000)
            assert piece, "the stream has ended"
            received += piece
        took = time.monotonic() - began
    numbers = [int(number) for number in re.findall(rb'"chat_number":1,"number":(\d+),', received)]
    assert numbers == list(range(1, events + 1)), "events are missing, doubled or out of order"
    return took


# What streams cost the others -----------------------------------------------------------------------------------------


def listeners(stack: Stack) -> list[Measure]:
    """Counts the CPU time of all processes of the product: what a POST causes in any of them."""
    side = stack.product
    measure = Measure(
        f"CPU of a POST with {LISTENERS:,} listeners, one a chat", MILLISECONDS, 1.15, False, "without listeners"
    )
    chats = _many_chats(side, LISTENERS)
    plan = Plan(side.product.port, [(_stream(chat), 1) for chat in chats], "id: ")
    requests = list(posts(chats, [TEXT % 0] * 20_000, 1))

    def used() -> float:
        """Each time with a live process that reads nothing yet: one whose streams have ended reads on for a while."""
        side.wait_until_settled()
        pids = processes(side.product.data_dir).keys()
        before = running.cpu(pids)
        load = side.load(requests, seconds)
        assert not load.refused
        accepted.append(load.accepted)
        side.wait_until_settled()
        return (running.cpu(pids) - before) / load.accepted * 1_000

    def with_listeners() -> float:
        _renew(side)
        with Listeners(plan) as those:
            cost = used()
            eventually(lambda: those.deliveries() >= accepted[-1], PATIENCE)
        return cost

    def without() -> float:
        _renew(side)
        return used()

    seconds = stack.scale.seconds
    accepted: list[int] = []
    # More rounds than the others, because rounds differ by more than the listeners cost.
    for turn in range(stack.scale.turns):
        ours, theirs = alternating(turn, with_listeners, without)
        stack.say(f"a POST costs {ours:.2f} ms of CPU with listeners, {theirs:.2f} ms without")
        measure.rounds.append(Round(ours, theirs))
    return [measure]


def _many_chats(side: ProductSide, number: int) -> list[str]:
    """Creates chats of APPLICATIONS applications, several at once, and returns their paths."""
    from bench import internals

    parents = [chat.rpartition("/")[0] for chat in side.open_chats(APPLICATIONS, 1)]
    numbers = range(2, number // APPLICATIONS + 1)
    internals.post(side.url, [Request("POST", parent, {"title": "measured"}) for parent in parents for _ in numbers])
    return [f"{parent}/{number}" for number in (1, *numbers) for parent in parents]


def feed(stack: Stack) -> list[Measure]:
    """Drains in this process, and measures how much of a drain the feed row takes.

    Drains with it and without it differ by a third from one to the next, and the feed row is a fiftieth.
    """
    from bench import internals
    from chatsystem.writelog import feed

    side, add = stack.product, feed.add
    name = f"CPU of the drain per message, {MANY_APPLICATIONS} applications"
    measure = Measure(name, MILLISECONDS, 1.05, at_least=False, reference="without the feed row")
    chats = side.open_chats(MANY_APPLICATIONS, 1)
    one_each = list(posts(chats, stack.texts.first(len(chats)), 1))
    spent = [0.0]

    def measured(*arguments: Any) -> None:
        began = time.process_time()
        add(*arguments)
        spent[0] += time.process_time() - began

    def drained() -> Round:
        internals.post(side.url, one_each)
        spent[0], began = 0.0, time.process_time()
        events = internals.drain_all()
        used = time.process_time() - began
        assert events == len(one_each), f"{events} events of {len(one_each)} posts"
        assert spent[0], "no feed row was added"
        return Round(used / events * 1_000, (used - spent[0]) / events * 1_000)

    with side.standing_still(WORKER), patch.object(feed, "add", measured):
        # The first drain opens connections.
        drained()
        measure.rounds = [drained() for _ in range(DRAINS * stack.scale.rounds)]
        internals.clear_outbox()
    low, high = min(measure.values), max(measure.values)
    stack.say(f"the feed row takes {low - 1:.1%} to {high - 1:.1%} more CPU time")
    side.wait_until_settled()
    return [measure]
