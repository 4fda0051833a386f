"""A stream shows everything that is acknowledged after its position: in order, none missing, none twice."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from chatsystem.writelog import tasks
from live.tickets import issue
from tests.live.following import position_of
from tests.support.harness import RealRedis, Tenant
from tests.support.live import POLL, STREAM, LiveServer

Drain = Callable[[], int]
StartLive = Callable[..., LiveServer]

#: Whether a new process reads recent events once for all streams, or each stream reads what it has missed.
RECENT = pytest.mark.parametrize("recent", [3_600, 0], ids=["together", "each for itself"])


def patch(tenant: Tenant, path: str, **fields: str) -> dict[str, Any]:
    response = tenant.api.patch(f"{tenant.path}{path}", fields, format="json")
    assert response.status_code == 200, response.content
    return json.loads(response.content)


def after(position: str) -> tuple[str, str]:
    return STREAM, f"Last-Event-ID: {position}"


def test_a_stream_shows_each_event_with_the_representation_that_the_api_returned(
    live: LiveServer, ours: Tenant, drained: Drain
) -> None:
    stream = live.open(f"{ours.path}/events").begun()

    chat = ours.chat("a chat")
    message = ours.message(1, "Hello, Élan!")
    drained()
    changed = patch(ours, "/chats/1/messages/1", body="changed\nin two lines")
    renamed = patch(ours, "/chats/1", title="renamed")

    for made in (chat, renamed):
        del made["messages_count"]
    events = [stream.next() for _ in range(4)]
    assert [(event.name, event.data) for event in events] == [
        ("chat", chat),
        ("message", {"chat_number": 1, **message}),
        ("message", {"chat_number": 1, **changed}),
        ("chat", renamed),
    ]


def test_a_client_whose_stream_is_open_sees_all_that_it_posts_from_then_on(live: LiveServer, ours: Tenant) -> None:
    # Given a partition that no stream of the process has shown yet, and a stream whose response has begun,
    stream = live.open(f"{ours.path}/events")
    stream.read_head()

    # when something is posted at once, then it is shown.
    ours.chat("at once")
    assert stream.until("at once")[-1] == "at once"


def test_a_stream_shows_only_events_of_its_application_and_of_its_chat(
    live: LiveServer, ours: Tenant, theirs: Tenant
) -> None:
    ours.chat("first")
    ours.chat("second")
    application = live.open(f"{ours.path}/events").begun()
    chat = live.open(f"{ours.path}/chats/2/events").begun()
    ticket, _ = issue(ours.token, frozenset([1]), 3_600)
    browser = live.open(f"/events?ticket={ticket}").begun()

    theirs.message(1, "theirs")
    ours.message(1, "to the first")
    patch(ours, "/chats/2", title="renamed")
    ours.message(2, "to the second")
    ours.message(1, "last")
    ours.message(2, "last")

    assert application.until("to the second") == ["to the first", "renamed", "to the second"]
    assert chat.until("last") == ["to the second", "last"]
    assert browser.until("last") == ["to the first", "last"]


@RECENT
def test_a_client_that_comes_back_misses_nothing_whatever_was_stored_meanwhile(
    start_live: StartLive, ours: Tenant, theirs: Tenant, drained: Drain, recent: int
) -> None:
    live = start_live(constants={"streams.RECENT": recent})
    ours.chat()
    stream = live.open(f"{ours.path}/events").begun()
    ours.message(1, "seen")
    stream.until("seen")

    live.kill()
    stored = [f"stored {i}" for i in range(1200)]
    ours.batch(1, stored[:600])
    theirs.message(1, "theirs")
    drained()
    ours.batch(1, stored[600:])
    drained()
    waiting = [f"waiting {i}" for i in range(700)]
    ours.batch(1, waiting)
    live.start()
    again = live.open(f"{ours.path}/events", *after(stream.position))
    ours.message(1, "live")

    assert again.until("live") == [*stored, *waiting, "live"]


def test_a_ticket_continues_from_an_old_position_without_knowing_the_token(
    live: LiveServer, ours: Tenant, theirs: Tenant, drained: Drain
) -> None:
    ours.chat()
    ours.chat()
    position = live.poll(f"{ours.path}/events", wait=0)["position"]
    ours.message(1, "stored")
    ours.message(2, "of another chat")
    theirs.message(1, "theirs")
    drained()
    ours.message(1, "waiting")
    ticket, _ = issue(ours.token, frozenset([1]), 3_600)

    stream = live.open(f"/events?ticket={ticket}&after={position}")
    ours.message(1, "live")

    assert stream.until("live") == ["stored", "waiting", "live"]


def test_a_stream_without_a_position_shows_nothing_that_was_acknowledged_before_it(
    start_live: StartLive, ours: Tenant
) -> None:
    # Given a process that polls rarely and has read the partition already, and a message that it has not read yet,
    live = start_live(constants={"reader.PACE": 1.0})
    ours.chat()
    first = live.open(f"{ours.path}/events").begun()
    ours.message(1, "before")

    stream = live.open(f"{ours.path}/events").begun()
    empty = live.poll(f"{ours.path}/events", wait=0)
    ours.message(1, "after")

    assert stream.until("after") == ["after"]
    assert first.until("after") == ["before", "after"]
    assert empty["events"] == []
    # The process has read it by now, so the poll need not wait.
    following = live.poll(f"{ours.path}/events", after=empty["position"], wait=0)
    assert [event["data"]["body"] for event in following["events"]] == ["after"]


def test_what_was_stored_and_trimmed_before_the_process_read_it_is_delivered(
    live: LiveServer, ours: Tenant, drained: Drain
) -> None:
    ours.chat()
    stream = live.open(f"{ours.path}/events").begun()
    bodies = [f"message {i}" for i in range(50)]

    with live.standing_still():
        ours.batch(1, bodies)
        drained()
    ours.message(1, "later")

    assert stream.until("later") == [*bodies, "later"]


@RECENT
def test_a_stream_of_the_log_and_one_from_the_backlog_meet_without_repeating(
    start_live: StartLive, ours: Tenant, drained: Drain, recent: int
) -> None:
    """The positions of all events: those stored, those in the log, and those that the process holds."""
    live = start_live(constants={"streams.RECENT": recent})
    ours.chat()
    start = live.poll(f"{ours.path}/events", wait=0)["position"]
    live.kill()
    for i in range(4):
        ours.message(1, f"{i}")
    drained()
    for i in range(4, 8):
        ours.message(1, f"{i}")
    live.start()
    live.open(f"{ours.path}/events").begun()
    for i in range(8, 12):
        ours.message(1, f"{i}")

    position, texts = start, []
    while len(texts) < 12:
        page = live.poll(f"{ours.path}/events", after=position, limit=1)
        texts += [event["data"]["body"] for event in page["events"]]
        position = page["position"]

    assert texts == [str(i) for i in range(12)]


def test_a_redis_that_is_killed_and_loses_nothing_resets_nobody(
    live: LiveServer, ours: Tenant, redis_server: RealRedis
) -> None:
    ours.chat()
    stream = live.open(f"{ours.path}/events").begun()
    ours.message(1, "before")

    redis_server.kill()
    redis_server.start()
    ours.message(1, "after")
    ours.message(1, "last")

    assert stream.until("last") == ["before", "after", "last"]
    again = live.open(f"{ours.path}/events", *after(stream.position))
    ours.message(1, "and so on")
    assert again.until("and so on") == ["and so on"]


def test_a_position_from_after_a_restart_of_redis_is_valid_also_while_nothing_is_written(
    live: LiveServer, ours: Tenant, redis_server: RealRedis
) -> None:
    # Given a stream of before, and a Redis that was restarted and has passed the fence,
    ours.chat()
    live.open(f"{ours.path}/events").begun()
    before = position_of(ours, "/chats")
    redis_server.kill()
    redis_server.start()
    tasks.sweep()

    # when a client reads a list and goes on from its position, before anything is written,
    position = position_of(ours, "/chats")
    assert (position.arrival, position.term > before.term) == (before.arrival, True)
    page = live.poll(f"{ours.path}/events", after=position, wait=0)

    # then nothing was taken back.
    assert page == {"events": [], "position": str(position)}


def test_events_that_a_redis_lost_are_taken_back_with_one_reset(
    live: LiveServer, ours: Tenant, state: Any, drained: Drain
) -> None:
    ours.chat()
    drained()
    stream = live.open(f"{ours.path}/events").begun()
    ours.message(1, "will be lost")
    stream.until("will be lost")

    state.flushall()
    ours.message(1, "new")
    reset = stream.next()
    ours.message(1, "last")

    # The client reads its lists now, and they show what came before the reset.
    assert (reset.name, reset.data) == ("reset", {"position": reset.id})
    assert stream.until("last") in (["new", "last"], ["last"])


def test_a_position_of_events_that_were_lost_is_reset_also_when_later_ones_have_passed_it(
    live: LiveServer, ours: Tenant, state: Any, drained: Drain
) -> None:
    ours.chat()
    drained()
    kept = live.poll(f"{ours.path}/events", wait=0)["position"]
    ours.message(1, "will be lost")
    lost = live.poll(f"{ours.path}/events", after=kept)["position"]
    live.kill()

    state.flushall()
    for i in range(3):
        ours.message(1, f"{i}")
    live.start()

    of_lost = live.poll(f"{ours.path}/events", after=lost)
    assert [event["event"] for event in of_lost["events"]] == ["reset"]
    assert of_lost["events"][0]["data"] == {"position": of_lost["position"]}
    of_kept = live.poll(f"{ours.path}/events", after=kept)
    assert [event["data"].get("body") for event in of_kept["events"]] == ["0", "1", "2"]


@pytest.mark.parametrize("position", ["x", "99-1", "0-999999999999999999"])
def test_a_last_event_id_that_is_none_of_ours_is_a_reset(live: LiveServer, ours: Tenant, position: str) -> None:
    stream = live.open(f"{ours.path}/events", STREAM, f"Last-Event-ID: {position}")

    event = stream.next()

    assert (event.name, event.data) == ("reset", {"position": event.id})
    ours.chat("and so on")
    assert stream.next().text == "and so on"


def test_the_last_event_id_counts_more_than_the_url_that_a_browser_repeats(live: LiveServer, ours: Tenant) -> None:
    start = live.poll(f"{ours.path}/events", wait=0)["position"]
    ours.chat("first")
    first = live.poll(f"{ours.path}/events", after=start)["position"]
    ours.chat("second")

    stream = live.open(f"{ours.path}/events?after={start}", *after(first))

    assert stream.next().text == "second"


def test_a_long_poll_waits_for_the_next_event_and_returns_where_to_go_on(live: LiveServer, ours: Tenant) -> None:
    nothing = live.poll(f"{ours.path}/events", wait=0)
    assert nothing["events"] == []

    waiting = live.open(f"{ours.path}/events?after={nothing['position']}&wait=30", POLL)
    chat = ours.chat("a chat")
    waiting.read_head()
    page = json.loads(waiting.file.read())

    del chat["messages_count"]
    assert page == {
        "events": [{"event": "chat", "id": page["position"], "data": chat}],
        "position": page["position"],
    }
    assert live.poll(f"{ours.path}/events", after=page["position"], wait=0)["events"] == []
