"""The live process itself: refusals and errors, limits, slow clients, stops and failures."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from chatsystem.writelog.keys import Keys, partition_of
from live.tickets import issue
from tests.support.harness import Tenant
from tests.support.live import POLL, STREAM, EventStream, LiveServer, rss
from tests.support.product import PATIENCE, eventually
from tests.support.wire import Client

StartLive = Callable[..., LiveServer]


def error(answer: Any) -> tuple[int, str, str | None]:
    """Returns the status, code and attr of an answer in the API's error shape."""
    content = json.loads(answer.content)
    assert set(content) == {"type", "errors"}
    [first] = content["errors"]
    assert set(first) == {"code", "detail", "attr"}
    return answer.status, first["code"], first["attr"]


def test_a_request_that_cannot_succeed_gets_an_error_in_the_apis_shape(live: LiveServer, ours: Tenant) -> None:
    events = f"{ours.path}/events"
    unknown = f"/applications/{'0' * 32}/events"

    assert error(live.ask(unknown)) == (404, "not_found", None)
    assert error(live.ask("/applications/none/events")) == (404, "not_found", None)
    assert error(live.ask(f"{ours.path}/chats/1/events")) == (404, "not_found", None)
    assert error(live.ask(f"{ours.path}/chats/{2**63}/events")) == (404, "not_found", None)
    assert error(live.ask("/elsewhere")) == (404, "not_found", None)
    assert error(live.ask("/events?ticket=none")) == (401, "invalid_ticket", None)
    assert error(live.ask("/events")) == (401, "invalid_ticket", None)
    assert error(live.ask(f"{events}?after=none")) == (400, "invalid", "after")
    assert error(live.ask(f"{events}?after=1-1&after=1-2")) == (400, "invalid", "after")
    assert error(live.ask(f"{events}?wait=31", POLL)) == (400, "invalid", "wait")
    assert error(live.ask(f"{events}?limit=0", POLL)) == (400, "invalid", "limit")
    assert error(live.ask(events, "Accept: text/html")) == (406, "not_acceptable", None)
    post = live.ask(events, method="POST")
    assert error(post) == (405, "method_not_allowed", None)
    assert post.headers["Allow"] == "GET"
    assert live.ask(events, method="HEAD").status == 405


@pytest.mark.parametrize(
    ("request_bytes", "status", "code"),
    [
        (b"GET /events HTTP/1.1\r\nHost: elsewhere\r\n\r\n", 400, "bad_request"),
        (b"GET /" + b"x" * 9_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", 414, "request_line_too_long"),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 9_000 + b"\r\n\r\n", 431, "headers_too_large"),
        (b"GET / HTTP/1.1\r\nno colon\r\n\r\n", 400, "malformed_request"),
    ],
)
def test_a_malformed_or_foreign_request_is_refused_in_the_error_shape(
    live: LiveServer, request_bytes: bytes, status: int, code: str
) -> None:
    with Client(live.port) as client:
        answer = client.ask(request_bytes)

    assert error(answer) == (status, code, None)
    assert answer.headers["Connection"].lower() == "close"


def test_a_page_of_a_listed_origin_may_read_streams_and_errors(
    api: object, start_live: StartLive, ours: Tenant
) -> None:
    live = start_live(CORS_ORIGINS="https://app.example.com")
    ours_origin, foreign = "Origin: https://app.example.com", "Origin: https://elsewhere.example.com"

    preflight = live.ask(f"{ours.path}/events", ours_origin, "Access-Control-Request-Method: GET", method="OPTIONS")
    refused = live.ask("/events?ticket=none", ours_origin)
    stream = live.open(f"{ours.path}/events", STREAM, ours_origin)

    assert preflight.status == 204
    for headers in (preflight.headers, refused.headers):
        assert headers["Access-Control-Allow-Origin"] == "https://app.example.com"
    assert b"access-control-allow-origin: https://app.example.com" in stream.read_head().lower()
    assert "Access-Control-Allow-Origin" not in live.ask("/events?ticket=none", foreign).headers


def test_beyond_the_limit_of_an_application_a_client_is_refused_for_a_moment(
    start_live: StartLive, ours: Tenant, theirs: Tenant
) -> None:
    live = start_live(STREAMS_PER_APPLICATION="2")
    streams = [live.open(f"{ours.path}/events").begun() for _ in range(2)]

    refused = live.open(f"{ours.path}/events").to_the_end()
    poll = live.ask(f"{ours.path}/events?wait=0", POLL)

    assert [event.retry >= 5_000 for event in refused] == [True]
    assert error(poll) == (503, "service_unavailable", None)
    assert int(poll.headers["Retry-After"]) > 0
    live.open(f"{theirs.path}/events").begun()
    streams[0].close()
    eventually(lambda: live.ask(f"{ours.path}/events?wait=0", POLL).status == 200)


def test_while_redis_is_away_streams_stay_open_and_new_ones_are_refused(
    live: LiveServer, ours: Tenant, redis_server: Any
) -> None:
    ours.chat()
    stream = live.open(f"{ours.path}/events").begun()

    redis_server.kill()
    try:
        other = live.ask(f"/applications/{'1' * 32}/events", POLL)
    finally:
        redis_server.start()
    ours.message(1, "back")

    assert error(other) == (503, "service_unavailable", None)
    assert stream.until("back") == ["back"]


def test_a_quiet_stream_sends_the_current_position(live: LiveServer, ours: Tenant) -> None:
    """So it does not age, although nothing happens in its own chat."""
    ours.chat()
    ours.chat()
    stream = live.open(f"{ours.path}/chats/1/events").begun()
    began, first = time.monotonic(), stream.position
    ours.message(2, "elsewhere")

    beat = next(frame for frame in stream.frames() if frame.id > first)

    assert beat.name == ""
    # The contract allows 15. The machine may be slow.
    assert time.monotonic() - began < PATIENCE


def test_a_stream_ends_when_its_ticket_does(live: LiveServer, ours: Tenant) -> None:
    # (on a slow machine one of two seconds may have ended before its stream begins)
    streams = []

    def is_open() -> bool:
        ticket, expires_at = issue(ours.token, None, 2 ** len(streams) + 1)
        streams.append((live.open(f"/events?ticket={ticket}"), expires_at))
        return b" 200 " in streams[-1][0].read_head()

    eventually(is_open)
    stream, expires_at = streams[-1]
    events = stream.to_the_end()

    assert time.time() >= expires_at.timestamp() - 1
    assert events[-1].retry


def test_a_stream_ends_at_its_age_and_its_client_continues(start_live: StartLive, ours: Tenant) -> None:
    live = start_live(constants={"asgi.LIFETIME": 1.0})
    ours.chat()
    stream = live.open(f"{ours.path}/events")

    hint = stream.to_the_end()[-1]
    ours.message(1, "meanwhile")

    assert hint.retry
    texts: list[str] = []

    def continues() -> bool:
        # On a slow machine the next stream may end too before it has read what is new.
        again = live.open(f"{ours.path}/events", STREAM, f"Last-Event-ID: {stream.position}")
        texts.extend(event.text for event in again.events_for(1))
        return bool(texts)

    eventually(continues)
    assert texts == ["meanwhile"]


def test_a_client_that_takes_nothing_is_cut_off(start_live: StartLive, ours: Tenant) -> None:
    live = start_live(constants={"streams.STALLED": 3.0}, STREAMS_PER_APPLICATION="2")
    ours.chat()
    stream = live.open(f"{ours.path}/events").begun()
    stalled = _small_buffer(live.port, f"{ours.path}/events").begun()
    assert live.ask(f"{ours.path}/events?wait=0", POLL).status == 503

    with ThreadPoolExecutor(1) as pool:
        # A client that takes everything stays.
        taken = pool.submit(stream.until, "last")
        # More than the sockets' buffers hold.
        for _ in range(4):
            ours.batch(1, ["x" * 15_000] * 250)
        ours.message(1, "last")
        assert len(taken.result()) == 1001
    eventually(lambda: live.ask(f"{ours.path}/events?wait=0", POLL).status == 200)
    assert "last" not in [event.text for event in stalled.events_for(1001)]


def test_a_client_of_http_1_0_gets_the_frames_without_chunks(live: LiveServer, ours: Tenant) -> None:
    ours.chat()
    with socket.create_connection(("127.0.0.1", live.port), timeout=60) as client, client.makefile("rb") as file:
        client.sendall(f"GET {ours.path}/events HTTP/1.0\r\nHost: localhost\r\n\r\n".encode())
        while file.readline().strip():
            pass
        lines = [file.readline() for _ in range(4)]
        assert [line.partition(b": ")[0] for line in lines] == [b"retry", b"\n", b"id", b"\n"]

        ours.message(1, "first")
        ours.message(1, "second")
        texts = [file.readline() for _ in range(8)]

    names = [line.partition(b": ")[0] for line in texts]
    assert names == [b"id", b"event", b"data", b"\n"] * 2


def test_a_process_whose_reader_has_failed_is_not_ready(start_live: StartLive, ours: Tenant, state: Any) -> None:
    # A sweep would end it.
    live = start_live(constants={"streams.SWEEP": 3_600.0})
    live.open(f"{ours.path}/events").begun()

    state.set(Keys(partition_of(ours.token)).clock, "not a number")

    eventually(lambda: live.ask("/health/ready").status == 503)
    assert live.ask("/health/ready").headers["Retry-After"]
    assert live.ask("/health/live").status == 200


def test_clients_that_read_nothing_cost_little_memory_and_delay_nobody(live: LiveServer, ours: Tenant) -> None:
    ours.chat()
    stream = live.open(f"{ours.path}/events").begun()
    start = stream.position
    # 40 MB: for 50 clients 2 GB.
    for i in range(10):
        ours.batch(1, [f"{i}" + "x" * 15_000] * 250)
        # Taken at once: one that takes nothing for half a minute is cut off.
        assert len([stream.next() for _ in range(250)]) == 250
    ours.message(1, "held")
    assert stream.until("held") == ["held"]
    before = rss(live.worker())

    slow = [_small_buffer(live.port, f"{ours.path}/events?after={start}") for _ in range(50)]
    for each in slow:
        assert each.read_head()
    ours.message(1, "last")

    assert stream.until("last") == ["last"]
    assert rss(live.worker()) - before < 150_000_000
    for each in slow:
        each.close()


def _small_buffer(port: int, path: str, size: int = 4096) -> EventStream:
    stream = EventStream(port, path)
    stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)
    return stream


def test_a_slow_client_gets_everything_over_as_many_streams_as_it_needs(
    live: LiveServer, ours: Tenant, drained: Any
) -> None:
    ours.chat()
    # With a smaller one the kernel would take most of a minute for what is read below.
    slow = _small_buffer(live.port, f"{ours.path}/events", 64 * 1024).begun()
    bodies = [f"{i} " + "x" * 15_000 for i in range(1_000)]
    for i in range(0, 1_000, 200):
        ours.batch(1, bodies[i : i + 200])
        drained()

    texts: list[str] = []
    while bodies[-1] not in texts:
        # A client that takes nothing for half a minute is cut off. The machine may be that slow.
        texts += [event.text for event in slow.events_for(100)]
        slow = live.open(f"{ours.path}/events", STREAM, f"Last-Event-ID: {slow.position}")
    assert texts == bodies


def test_sigterm_ends_a_thousand_streams_with_a_hint_and_refuses_new_ones(live: LiveServer, ours: Tenant) -> None:
    with ThreadPoolExecutor(20) as pool:
        streams = list(pool.map(lambda _: live.open(f"{ours.path}/events").begun(), range(1_000)))
    worker = live.worker()

    os.kill(live.process.pid, signal.SIGTERM)
    with ThreadPoolExecutor(20) as pool:
        ends = list(pool.map(EventStream.to_the_end, streams))

    assert all(end and end[-1].retry for end in ends)
    live.process.wait(PATIENCE)
    assert live.process.returncode == 0
    eventually(lambda: not os.path.exists(f"/proc/{worker}"))


def test_a_reload_begins_the_new_process_before_the_old_one_ends(live: LiveServer, ours: Tenant) -> None:
    ours.chat()
    stream = live.open(f"{ours.path}/events").begun()
    old = live.worker()

    os.kill(live.process.pid, signal.SIGHUP)
    hint = stream.to_the_end()[-1]
    ours.message(1, "meanwhile")
    again = live.open(f"{ours.path}/events", STREAM, f"Last-Event-ID: {stream.position}")

    assert hint.retry
    assert again.until("meanwhile") == ["meanwhile"]
    eventually(lambda: live.worker() != old)


def test_a_process_whose_reader_fails_is_replaced_and_its_clients_miss_nothing(
    live: LiveServer, ours: Tenant, state: Any
) -> None:
    ours.chat()
    stream = live.open(f"{ours.path}/events").begun()
    old, clock = live.worker(), Keys(partition_of(ours.token)).clock

    kept = state.get(clock)
    state.set(clock, "not a number")
    hint = stream.to_the_end()[-1]
    state.set(clock, kept)

    assert hint.retry
    eventually(live.is_ready)
    eventually(lambda: live.worker() != old)
    ours.message(1, "meanwhile")
    again = live.open(f"{ours.path}/events", STREAM, f"Last-Event-ID: {stream.position}")
    assert again.until("meanwhile") == ["meanwhile"]
    assert "the reader of the log has failed" in live.log.read_text()


def test_a_client_that_goes_away_is_no_longer_counted(start_live: StartLive, ours: Tenant) -> None:
    live = start_live(STREAMS_PER_APPLICATION="1")
    for _ in range(5):
        stream = live.open(f"{ours.path}/events").begun()
        stream.close()
        eventually(lambda: live.ask(f"{ours.path}/events?wait=0", POLL).status == 200)


def test_the_log_holds_neither_a_token_nor_a_text(live: LiveServer, ours: Tenant) -> None:
    ours.chat("a secret title")
    live.open(f"{ours.path}/events?after=1-1").begun()
    live.stop()

    log = live.log.read_text()
    assert ours.token not in log
    assert "secret" not in log
