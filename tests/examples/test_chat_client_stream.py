"""The streams of examples/chat_client.py, against a server that drops, refuses and resets them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from datetime import datetime, timezone
from typing import Any

import pytest

from examples.chat_client import ApiError, ChatClient, ChatError, ChatEvent, Event, MessageEvent, StreamReset
from tests.support.product import eventually
from tests.support.scripted import Answer, Scripted, as_json, error, frame, scripted

TOKEN = "0123456789abcdef" * 2
TIME = "2026-01-31T23:59:59.000001Z"


def message(arrival: int, **more: Any) -> str:
    data = {"chat_number": 1, "number": arrival, "body": "Élan", "created_at": TIME, "last_request_time": TIME}
    return frame(f"7-{arrival}", "message", {**data, **more})


@pytest.fixture
def server() -> Iterator[Scripted]:
    with scripted() as server:
        yield server


@pytest.fixture
def client(server: Scripted) -> ChatClient:
    return ChatClient(server.url, patience=20)


def taken(stream: Iterator[Event], amount: int) -> list[Event]:
    return list(itertools.islice(stream, amount))


def positions(server: Scripted) -> list[str]:
    """Returns where each connection began."""
    return [asked.query["after"] for asked in server.to("/events")]


def test_events_come_with_their_types_and_positions(server: Scripted, client: ChatClient) -> None:
    chat = {"number": 3, "title": "Support", "created_at": TIME, "last_request_time": TIME}
    server.script(Answer("retry: 1000\n" + message(11, later="field") + frame("7-12", "chat", chat), then="hold"))

    events = taken(client.stream(TOKEN, position="7-10"), 2)

    moment = datetime(2026, 1, 31, 23, 59, 59, 1, tzinfo=timezone.utc)
    assert events == [
        MessageEvent("7-11", 1, 11, "Élan", moment, moment),
        ChatEvent("7-12", 3, "Support", moment, moment),
    ]
    assert [asked.path for asked in server.asked] == [f"/applications/{TOKEN}/events"]
    assert positions(server) == ["7-10"]


def test_without_a_position_it_begins_where_the_list_is_now(server: Scripted, client: ChatClient) -> None:
    server.pages[f"/applications/{TOKEN}/chats"] = as_json({"results": []}, Stream_Position="7-5")
    server.pages[f"/applications/{TOKEN}/chats/2/messages"] = as_json({"results": []}, Stream_Position="7-6")
    # A connection that breaks before anything came does not lose the beginning.
    server.script(Answer(then="cut"), Answer(message(7), then="hold"), Answer(message(8), then="hold"))

    assert [event.position for event in taken(client.stream(TOKEN), 1)] == ["7-7"]
    assert [event.position for event in taken(client.stream(TOKEN, chat=2), 1)] == ["7-8"]

    assert positions(server) == ["7-5", "7-5", "7-6"]
    assert server.asked[-1].path == f"/applications/{TOKEN}/chats/2/events"


def test_a_dropped_stream_continues_after_the_last_whole_event(server: Scripted, client: ChatClient) -> None:
    # Given connections that end in the middle of a frame, in an orderly way, and after a heartbeat,
    half = message(12).partition("data:")[0] + "data: {"
    server.script(
        Answer(message(11) + half, then="cut"),
        Answer(message(12) + "id: 7-13\n", then="end"),
        Answer(frame("7-20"), then="cut"),
        Answer(": a comment\n\n" + message(21), then="hold"),
    )

    # when a client reads on, then each event comes once, and each connection begins where the last one was.
    assert [event.number for event in taken(client.stream(TOKEN, position="7-10"), 3)] == [11, 12, 21]
    assert positions(server) == ["7-10", "7-11", "7-12", "7-20"]


def test_it_waits_as_long_as_the_server_says(server: Scripted, client: ChatClient) -> None:
    server.script(
        Answer("retry: 700\n\n" + message(11), then="cut"),
        error(503, "service_unavailable", Retry_After="1"),
        Answer("retry: 600\n\n"),
        Answer(message(12), then="hold"),
    )

    assert [event.number for event in taken(client.stream(TOKEN, position="7-10"), 2)] == [11, 12]

    times = [asked.at for asked in server.to("/events")]
    waited = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert [least <= seconds for least, seconds in zip((0.7, 1.0, 0.6), waited, strict=True)] == [True] * 3


def test_a_reset_is_raised_with_the_position_to_go_on_from(server: Scripted, client: ChatClient) -> None:
    reset = frame("8-50", "reset", {"position": "8-50"})
    server.script(Answer(message(11) + reset + message(51), then="hold"), Answer(message(52), then="hold"))

    stream = client.stream(TOKEN, position="7-10")
    assert taken(stream, 1)
    with pytest.raises(StreamReset) as reported:
        next(stream)

    assert [event.number for event in taken(client.stream(TOKEN, position=reported.value.position), 1)] == [52]
    assert positions(server) == ["7-10", "8-50"]


def test_a_reset_can_be_a_callback_and_the_stream_goes_on(server: Scripted, client: ChatClient) -> None:
    reset = frame("8-50", "reset", {"position": "8-50"})
    server.script(Answer(reset + message(51), then="cut"), Answer(message(52), then="hold"))
    resets: list[str] = []

    stream = client.stream(TOKEN, position="7-10", on_reset=resets.append)

    assert [event.number for event in taken(stream, 2)] == [51, 52]
    assert resets == ["8-50"]
    assert positions(server) == ["7-10", "7-51"]


@pytest.mark.parametrize(("status", "code"), [(404, "not_found"), (400, "invalid")])
def test_a_refusal_for_good_is_raised(status: int, code: str, server: Scripted, client: ChatClient) -> None:
    server.script(error(status, code))

    with pytest.raises(ApiError) as refused:
        next(client.stream(TOKEN, position="7-10"))

    assert (refused.value.status, refused.value.code) == (status, code)
    assert len(server.asked) == 1


def test_a_server_without_streams_is_named(server: Scripted, client: ChatClient) -> None:
    server.pages[f"/applications/{TOKEN}/chats"] = as_json({"results": []})

    with pytest.raises(ChatError, match="no Stream-Position"):
        client.stream(TOKEN)


def test_a_stream_that_is_closed_closes_its_connection(server: Scripted, client: ChatClient) -> None:
    server.script(Answer(message(11), then="hold"))
    stream = client.stream(TOKEN, position="7-10")
    next(stream)

    stream.close()  # type: ignore[attr-defined]

    eventually(lambda: server.gone == 1)


def test_a_ticket_is_created_for_what_was_asked(server: Scripted, client: ChatClient) -> None:
    server.pages[f"/applications/{TOKEN}/tickets"] = as_json({"ticket": "abc", "expires_at": TIME}, 201)

    assert client.create_ticket(TOKEN, chats=[1, 2], ttl=60).ticket == "abc"
    assert client.create_ticket(TOKEN).expires_at.tzinfo == timezone.utc

    assert [asked.body for asked in server.asked] == ['{"chats": [1, 2], "ttl": 60}', "{}"]
