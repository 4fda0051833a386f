"""examples/chat-client.js in a browser, against a server that drops, refuses and resets its streams."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from tests.support.product import BASE_DIR, PATIENCE
from tests.support.scripted import Answer, Scripted, as_json, error, frame, scripted

TOKEN = "0123456789abcdef" * 2
FAR = "2100-01-01T00:00:00.000000Z"

#: Begins a stream, and records what it delivers.
STREAM = """(options) => {
    window.seen = [];
    window.states = [];
    window.stream = new ChatClient().stream({
        ...options,
        onMessage: (message, position) => seen.push(["message", message.number, position]),
        onChat: (chat, position) => seen.push(["chat", chat.number, position]),
        onReset: (position) => seen.push(["reset", position]),
        onState: (state, error) => states.push(error ? `${state}: ${error.code}` : state),
    });
}"""


@pytest.fixture
def server() -> Iterator[Scripted]:
    with scripted() as server:
        script = (BASE_DIR / "examples/chat-client.js").read_text()
        server.pages["/chat-client.js"] = Answer(script, headers={"Content-Type": "text/javascript"})
        page = '<!DOCTYPE html><link rel="icon" href="data:,"><script src="/chat-client.js"></script>'
        server.pages["/"] = Answer(page, headers={"Content-Type": "text/html"})
        yield server


@pytest.fixture
def page(browser: Browser, server: Scripted) -> Iterator[Page]:
    page = browser.new_page()
    page.set_default_timeout(PATIENCE * 1_000)
    thrown: list[str] = []
    page.on("pageerror", lambda problem: thrown.append(str(problem)))
    page.goto(server.url)
    yield page
    page.close()
    assert thrown == []


def message(arrival: int) -> str:
    return frame(f"7-{arrival}", "message", {"chat_number": 1, "number": arrival})


def event(arrival: int) -> dict[str, Any]:
    return {"event": "message", "id": f"7-{arrival}", "data": {"chat_number": 1, "number": arrival}}


def polled(position: str, *events: dict[str, Any]) -> Answer:
    return as_json({"events": events, "position": position})


def begin(page: Page, **options: Any) -> None:
    page.evaluate(STREAM, {"ticket": "abc", **options})


def wait_for(page: Page, amount: int) -> list[list[Any]]:
    page.wait_for_function("(amount) => seen.length >= amount", arg=amount)
    seen: list[list[Any]] = page.evaluate("seen")
    return seen


def connections(server: Scripted) -> list[tuple[str, str | None, str | None]]:
    """Returns of each request for events: what it is, where it begins, and the position that the browser sent."""
    return [
        (
            "stream" if asked.headers["Accept"] == "text/event-stream" else f"poll {asked.query['wait']}",
            asked.query.get("after"),
            asked.headers.get("Last-Event-ID"),
        )
        for asked in server.to("/events")
    ]


def test_a_stream_begins_at_the_position_and_delivers_each_kind(page: Page, server: Scripted) -> None:
    chat = frame("7-13", "chat", {"number": 2, "title": "Support"})
    server.script(polled("7-11", event(11)), Answer(message(12) + frame("7-12") + chat, then="hold"))

    begin(page, position="7-10")

    assert wait_for(page, 3) == [["message", 11, "7-11"], ["message", 12, "7-12"], ["chat", 2, "7-13"]]
    assert page.evaluate("[stream.position, stream.state]") == ["7-13", "live"]
    assert page.evaluate("states") == ["connecting", "live"]
    assert connections(server) == [("poll 0", "7-10", None), ("stream", "7-11", None)]
    assert {asked.query["ticket"] for asked in server.to("/events")} == {"abc"}


def test_without_a_position_it_begins_now_and_keeps_the_position(page: Page, server: Scripted) -> None:
    # The first connection breaks before any event.
    server.script(polled("7-10"), Answer("retry: 10\n\n", then="cut"), Answer(message(11), then="hold"))

    begin(page)

    assert wait_for(page, 1) == [["message", 11, "7-11"]]
    assert connections(server) == [("poll 0", None, None), ("stream", "7-10", None), ("stream", "7-10", None)]


# A browser may drop what it has not handled yet when a connection breaks. So what has to arrive here ends in order.


def test_a_dropped_stream_continues_without_loss_and_says_so(page: Page, server: Scripted) -> None:
    half = message(12).partition("data:")[0] + "data: {"
    server.script(
        polled("7-10"),
        Answer("retry: 10\n" + message(11) + half),
        Answer(message(12) + frame("7-20")),
        Answer(message(21), then="hold"),
    )

    begin(page, position="7-10")

    assert [number for _, number, _ in wait_for(page, 3)] == [11, 12, 21]
    assert [last for _, _, last in connections(server)] == [None, None, "7-11", "7-20"]
    assert page.evaluate("states") == ["connecting", "live", "reconnecting", "live", "reconnecting", "live"]


def test_a_browser_that_gave_up_is_helped_from_the_last_position(page: Page, server: Scripted) -> None:
    # EventSource gives up for good on any other status than 200.
    server.script(
        polled("7-10"),
        Answer("retry: 10\n" + message(11)),
        error(502, "of a proxy"),
        error(503, "service_unavailable", Retry_After="0"),
        polled("7-12", event(12)),
        Answer(message(13), then="hold"),
    )

    begin(page, position="7-10")

    assert [number for _, number, _ in wait_for(page, 3)] == [11, 12, 13]
    assert connections(server)[3:] == [("poll 0", "7-11", None), ("poll 0", "7-11", None), ("stream", "7-12", None)]


@pytest.mark.parametrize("by", ["stream", "poll"])
def test_a_reset_moves_the_position(by: str, page: Page, server: Scripted) -> None:
    reset = {"event": "reset", "id": "8-50", "data": {"position": "8-50"}}
    if by == "poll":
        server.script(polled("8-51", reset, event(51)), Answer(then="hold"))
    else:
        server.script(polled("7-10"), Answer(frame("8-50", "reset", reset["data"]), then="hold"))

    begin(page, position="7-10")

    assert wait_for(page, 1)[0] == ["reset", "8-50"]
    page.wait_for_function("position => stream.position === position", arg="8-51" if by == "poll" else "8-50")


def test_without_event_source_it_polls(page: Page, server: Scripted) -> None:
    server.script(
        polled("7-11", event(11)),
        polled("7-11"),
        error(503, "service_unavailable", Retry_After="0"),
        polled("7-12", event(12)),
        Answer(then="hold"),
    )

    begin(page, position="7-10", eventSource=None)

    assert [number for _, number, _ in wait_for(page, 2)] == [11, 12]
    page.wait_for_function("stream.state === 'polling'")
    assert connections(server)[:4] == [
        ("poll 0", "7-10", None),
        ("poll 25", "7-11", None),
        ("poll 25", "7-11", None),
        ("poll 0", "7-11", None),
    ]


def test_where_streams_do_not_get_through_it_polls(page: Page, server: Scripted) -> None:
    blocked = Answer("<html>", headers={"Content-Type": "text/html"})
    server.script(
        polled("7-10"), blocked, polled("7-11", event(11)), blocked, polled("7-11"), polled("7-12", event(12))
    )

    begin(page, position="7-10")

    assert [number for _, number, _ in wait_for(page, 2)] == [11, 12]
    assert page.evaluate("stream.state") == "polling"
    assert [kind for kind, _, _ in connections(server)][:6] == [
        *("poll 0", "stream") * 2,
        *("poll 0", "poll 25"),
    ]


TICKETS = """(lives) => {
    window.tickets = 0;
    window.renewed = [];
    window.ends = [];
    window.getTicket = async () => {
        const life = lives[tickets++] ?? 3600;
        renewed.push(Date.now());
        ends.push(Date.now() + 1000 * life);
        return {ticket: `ticket ${tickets}`, expires_at: new Date(ends.at(-1)).toISOString()};
    };
}"""


def test_a_ticket_is_renewed_before_it_ends(page: Page, server: Scripted) -> None:
    """By a clock that the test moves."""
    page.clock.install()
    page.evaluate(TICKETS, [300])
    server.script(polled("7-10"), Answer(message(11), then="hold"), polled("7-20"), Answer(message(21), then="hold"))
    page.evaluate(STREAM.replace("...options,", "...options, getTicket,"), {"position": "7-10"})
    wait_for(page, 1)

    page.clock.fast_forward(269_000)
    assert page.evaluate("tickets") == 1
    page.clock.fast_forward(2_000)

    assert [number for _, number, _ in wait_for(page, 2)] == [11, 21]
    asked = [(each.query["ticket"], each.query["after"]) for each in server.to("/events")]
    assert asked == [("ticket 1", "7-10"), ("ticket 1", "7-10"), ("ticket 2", "7-11"), ("ticket 2", "7-20")]
    assert page.evaluate("states") == ["connecting", "live"]
    assert page.evaluate("renewed[1] < ends[0]")


def test_a_ticket_that_was_refused_is_replaced_and_one_without_another_ends_the_stream(
    page: Page, server: Scripted
) -> None:
    page.evaluate(TICKETS, [])
    server.script(error(401, "not_authenticated"), polled("7-10"), Answer(message(11), then="hold"))
    page.evaluate(STREAM.replace("...options,", "...options, getTicket,"), {"position": "7-10"})
    wait_for(page, 1)
    assert [asked.query["ticket"] for asked in server.to("/events")] == ["ticket 1", "ticket 2", "ticket 2"]

    page.evaluate("stream.close()")
    server.script(error(401, "not_authenticated"))
    begin(page, position="7-10")

    page.wait_for_function("states.includes('closed: not_authenticated')")
    assert len(server.to("/events")) == 4


def test_a_closed_stream_delivers_nothing_and_ends_its_connection(page: Page, server: Scripted) -> None:
    server.script(polled("7-10"), Answer(message(11), then="hold"))
    begin(page, position="7-10")
    wait_for(page, 1)

    page.evaluate("stream.close()")

    page.wait_for_function("states.at(-1) === 'closed'")
    while not server.gone:
        page.wait_for_timeout(20)
    assert len(server.to("/events")) == 2


def test_a_write_is_repeated_with_its_key_and_lists_tell_their_position(page: Page, server: Scripted) -> None:
    chats = f"/applications/{TOKEN}/chats"
    server.pages[chats] = error(503, "service_unavailable", Retry_After="0")
    page.evaluate("(token) => { window.sent = new ChatClient().createChat(token, 'Support'); }", TOKEN)
    while len(server.to("/chats")) < 3:
        page.wait_for_timeout(20)
    server.pages[chats] = as_json({"number": 1, "results": [], "next": None}, Stream_Position="7-10")

    assert page.evaluate("sent.then((chat) => chat.number)") == 1
    assert len({asked.headers["Idempotency-Key"] for asked in server.to("/chats")}) == 1
    assert json.loads(server.to("/chats")[0].body) == {"title": "Support"}

    listed = page.evaluate("(token) => new ChatClient().chats(token, {limit: 5, order: 'desc'})", TOKEN)
    assert listed["position"] == "7-10"
    assert server.asked[-1].query == {"limit": "5", "order": "desc"}


def test_a_refusal_is_thrown_as_the_api_tells_it(page: Page) -> None:
    refused = page.evaluate(
        "new ChatClient().application('x').catch((error) => [error instanceof ChatClient.ApiError, error.message])"
    )

    assert refused == [True, "404 not_found: Refused."]


def test_a_highlight_is_split_into_texts(page: Page) -> None:
    parts = page.evaluate(
        "ChatClient.highlightParts('<em>a</em> &lt;img src=x&gt; &amp;lt;<em>&quot;q&#x27;</em><em>z</em>')"
    )

    assert parts == [["a", True], [" <img src=x> &lt;", False], ["\"q'", True], ["z", True]]
