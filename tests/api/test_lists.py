"""GET of a chat's messages or an application's chats: pages by number, and the links that walk them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest

from chatsystem.api.pagination import AFTER, Cursors
from tests.support.harness import Tenant, drain_all, in_threads
from tests.support.places import MESSAGE, UNKNOWN_TOKEN, Place, assert_error, local, place_of


@pytest.fixture(params=["chat", "message"])
def place(request: pytest.FixtureRequest, ours: Tenant) -> Place:
    return place_of(request.param, ours)


def fill(place: Place, count: int, settle: Callable = lambda: None) -> None:
    """Creates that many entities. The first half is settled before the rest arrive."""
    texts = [str(i + 1) for i in range(count)]
    for half in (texts[: count // 2], texts[count // 2 :]):
        if place.kind is MESSAGE:
            place.api.post(place.path, [{"body": text} for text in half], format="json")
        else:
            for text in half:
                place.create(text)
        if half == texts[: count // 2]:
            settle()


def page(place: Place, **params: object) -> dict[str, Any]:
    response = place.api.get(place.path, params)
    assert response.status_code == 200, response.content
    answer = response.json()
    assert list(answer) == ["next", "previous", "results"]
    return answer


def numbers(answer: dict[str, Any]) -> list[int]:
    return [entity["number"] for entity in answer["results"]]


def walk(place: Place, answer: dict[str, Any], link: str) -> Iterator[dict[str, Any]]:
    """Returns the pages that follow in that direction."""
    while answer[link]:
        response = place.api.get(local(answer[link]))
        assert response.status_code == 200, response.content
        answer = response.json()
        yield answer


def test_an_empty_list_has_no_links(place: Place, settle: Callable) -> None:
    settle()
    for order in ("asc", "desc"):
        assert page(place, order=order) == {"next": None, "previous": None, "results": []}


def test_a_list_shows_the_representations(place: Place, settle: Callable) -> None:
    created = [place.create(str(i)) for i in range(3)]
    settle()

    assert page(place) == {"next": None, "previous": None, "results": created}
    assert page(place, order="desc")["results"] == created[::-1]


def test_a_page_holds_fifty_unless_told_otherwise(messages: Place, settle: Callable) -> None:
    messages.api.post(messages.path, [{"body": "x"}] * 1000, format="json")
    messages.create("the last")
    settle()

    assert numbers(page(messages)) == list(range(1, 51))
    assert numbers(page(messages, order="desc")) == list(range(1001, 951, -1))
    assert numbers(page(messages, limit=1)) == [1]
    assert numbers(page(messages, limit=1000)) == list(range(1, 1001))
    assert numbers(page(messages, limit=1000, order="desc")) == list(range(1001, 1, -1))


def expected(top: int, limit: int, order: str, after: int | None, before: int | None) -> list[int]:
    """Returns the page by a literal reading of the contract."""
    every = [n for n in range(1, top + 1) if (after is None or n > after) and (before is None or n < before)]
    if after is not None and before is None:
        chosen = every[:limit]  # the page nearest above
    elif before is not None and after is None:
        chosen = every[-limit:]  # the page nearest below
    else:
        chosen = every[:limit] if order == "asc" else every[-limit:]
    return chosen if order == "asc" else chosen[::-1]


def test_limit_order_after_and_before_mean_what_the_contract_says(messages: Place, settle: Callable) -> None:
    top = 7
    fill(messages, top, settle)

    for order in ("asc", "desc"):
        for limit in (1, 3, 7, 8):
            for after in (None, 0, 3, 6, 7, 2**63 - 1):
                for before in (None, 1, 4, 8, 2**63 - 1):
                    asked = {"limit": limit, "order": order, "after": after, "before": before}
                    given = {name: value for name, value in asked.items() if value is not None}
                    assert numbers(page(messages, **given)) == expected(top, limit, order, after, before), given


@pytest.mark.parametrize("order", ["asc", "desc"])
@pytest.mark.parametrize(
    "bounds", [{}, {"after": 3, "before": 19}, {"after": 0, "before": 1000}, {"after": 21, "before": 30}], ids=repr
)
def test_links_walk_to_the_end_and_back_without_repeat_or_skip(
    messages: Place, settle: Callable, order: str, bounds: dict[str, int]
) -> None:
    fill(messages, 20, settle)
    inside = expected(20, 1000, order, bounds.get("after"), bounds.get("before"))

    for limit in (3, 4, 20):
        first = page(messages, limit=limit, order=order, **bounds)
        pages = [first, *walk(messages, first, "next")]
        assert [n for answer in pages for n in numbers(answer)] == inside
        assert first["previous"] is None

        back = [pages[-1], *walk(messages, pages[-1], "previous")]
        assert [n for answer in back[::-1] for n in numbers(answer)] == inside
        assert back[-1]["previous"] is None


@pytest.mark.parametrize("start", [{"after": 10}, {"before": 10}], ids=repr)
@pytest.mark.parametrize("order", ["asc", "desc"])
def test_links_lead_on_from_a_page_in_the_middle_both_ways(messages: Place, order: str, start: dict[str, int]) -> None:
    fill(messages, 20)
    middle = page(messages, limit=3, order=order, **start)

    ahead = [n for answer in walk(messages, middle, "next") for n in numbers(answer)]
    behind = list(walk(messages, middle, "previous"))

    every = list(range(1, 21)) if order == "asc" else list(range(20, 0, -1))
    assert [n for answer in behind[::-1] for n in numbers(answer)] + numbers(middle) + ahead == every


@pytest.mark.parametrize(
    "start", [{"after": 2**63 - 1}, {"before": 2**63 - 1}, {"after": 500}, {"before": 1}], ids=repr
)
@pytest.mark.parametrize("order", ["asc", "desc"])
def test_each_link_of_a_page_beyond_the_ends_can_be_followed(
    messages: Place, order: str, start: dict[str, int]
) -> None:
    fill(messages, 5)
    answer = page(messages, limit=2, order=order, **start)

    seen = numbers(answer)
    for link in ("next", "previous"):
        for step in walk(messages, answer, link):
            seen += numbers(step)

    assert sorted(seen) == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(("order", "bounds"), [("asc", {}), ("desc", {}), ("asc", {"after": 2, "before": 40})])
def test_a_walk_meets_each_row_once_while_rows_arrive(messages: Place, order: str, bounds: dict[str, int]) -> None:
    fill(messages, 10, drain_all)
    answer = page(messages, limit=3, order=order, **bounds)
    seen = numbers(answer)

    turn = 0
    while answer["next"]:
        turn += 1
        messages.create("arrived meanwhile")
        if turn % 2:
            drain_all()
        if turn > 8 and order == "asc":
            break
        answer = messages.api.get(local(answer["next"])).json()
        seen += numbers(answer)

    low = bounds.get("after", 0) + 1
    assert seen == (list(range(low, low + len(seen))) if order == "asc" else list(range(10, 0, -1)))
    assert len(seen) >= 10 - low + 1

    # And back to the start. In descending order, newer arrivals now precede it.
    back = [answer, *walk(messages, answer, "previous")]
    unseen = list(range(10 + turn, 10, -1)) if order == "desc" else []
    assert [n for step in back[::-1] for n in numbers(step)] == unseen + seen


@pytest.mark.parametrize(
    ("bounds", "position"),
    [
        ({}, {"after", "before"}),
        ({"after": "2"}, {"after", "before"}),
        ({"before": "5"}, {"after", "before"}),
        ({"after": "1", "before": "5"}, {"cursor"}),
    ],
    ids=["no bounds", "after", "before", "a range"],
)
def test_links_keep_the_other_parameters_and_the_clients_host(
    place: Place, bounds: dict[str, str], position: set[str]
) -> None:
    fill(place, 5)
    kept = {"limit": "1", "order": "desc", "mine": "ä &=+"}

    def get(url: str, asked: dict[str, str] | None = None) -> dict[str, Any]:
        response = place.api.get(url, asked, headers={"Host": "localhost:99"})
        assert response.status_code == 200, response.content
        return response.json()

    # Given a first page and the next one,
    first = get(f"{place.path}/", kept | bounds)
    second = get(first["next"].removeprefix("http://localhost:99"))
    assert len(first["results"]) == len(second["results"]) == 1

    # then each link has a position, and keeps all other parameters.
    for url in (first["next"], second["next"], second["previous"]):
        link = urlsplit(url)
        assert (link.scheme, link.netloc, link.path) == ("http", "localhost:99", f"{place.path}/")
        query = dict(parse_qsl(link.query, strict_parsing=True))
        assert len(position & query.keys()) == 1
        stays = kept | bounds if position == {"cursor"} else kept
        assert {name: value for name, value in query.items() if name not in position} == stays


NO_NUMBERS = [
    "-1",
    "abc",
    "",
    "1e3",
    "٣",
    "１",
    str(2**63),
    "9" * 20,
    "9" * 5000,
    "1.0",
    " 1",
    "+1",
    "0x1",
    "1,2",
    "null",
    "\0",
]


@pytest.mark.parametrize("name", ["limit", "after", "before"])
def test_a_parameter_that_is_no_number_is_refused_by_name(place: Place, name: str) -> None:
    refused = {"limit": ["0", "1001"], "before": ["0"], "after": []}[name]
    for value in [*NO_NUMBERS, *refused]:
        assert_error(place.api.get(place.path, {name: value}), 400, "invalid", name)


@pytest.mark.parametrize("value", ["up", "", "ASC", "asc,desc", "-number"])
def test_an_order_that_is_none_is_refused_by_name(place: Place, value: str) -> None:
    assert_error(place.api.get(place.path, {"order": value}), 400, "invalid", "order")


#: Valid beside `after` and `before`.
CURSOR = Cursors("numbers").write(AFTER, 1)


@pytest.mark.parametrize("name", ["limit", "after", "before", "order", "cursor"])
def test_a_repeated_parameter_is_refused_by_name(place: Place, name: str) -> None:
    value = {"order": "asc", "cursor": CURSOR}.get(name, "1")

    assert_error(place.api.get(f"{place.path}?{name}={value}&{name}={value}"), 400, "invalid", name)


@pytest.mark.parametrize(
    "value",
    ["", "x", "after-1", CURSOR.partition(":")[0], f"x{CURSOR}", CURSOR[:-1], Cursors("applications").write(AFTER, 1)],
    # A cursor is signed with a key that each test process makes; the names of the tests have to be the same in all.
    ids=["empty", "x", "no-cursor", "unsigned", "longer", "shorter", "of-another-list"],
)
def test_a_broken_cursor_is_refused_by_name(place: Place, value: str) -> None:
    assert_error(place.api.get(place.path, {"after": 1, "before": 5, "cursor": value}), 400, "invalid", "cursor")


def test_a_cursor_belongs_to_a_range(place: Place) -> None:
    for bounds in ({}, {"after": 1}, {"before": 5}):
        assert_error(place.api.get(place.path, {**bounds, "cursor": CURSOR}), 400, "invalid", "cursor")


@pytest.mark.parametrize(
    "path", [f"/applications/{UNKNOWN_TOKEN}/chats", f"/applications/{UNKNOWN_TOKEN}/chats/1/messages"]
)
def test_there_is_no_list_of_an_unknown_application(ours: Tenant, path: str) -> None:
    assert_error(ours.api.get(path), 404, "not_found")


def test_there_is_no_list_of_an_unknown_chat(ours: Tenant, settle: Callable) -> None:
    ours.chat()
    settle()

    assert_error(ours.api.get(f"{ours.path}/chats/2/messages"), 404, "not_found")


def test_no_reader_misses_a_row_while_writers_write_and_drains_drain(messages: Place) -> None:
    """In the other order, a row could leave the pending view after the database was read, and be missed."""
    done = threading.Event()
    acknowledged = [0]

    def act(role: int) -> None:
        if role == 0:
            try:
                for i in range(60):
                    acknowledged[0] = messages.create(str(i))["number"]
            finally:
                done.set()
        elif role == 1:
            while not done.is_set():
                drain_all()
        else:
            order = "asc" if role == 2 else "desc"
            while not done.is_set():
                known = acknowledged[0]
                found = numbers(page(messages, limit=1000, order=order))
                found = found if order == "asc" else found[::-1]
                assert found == list(range(1, len(found) + 1))
                assert len(found) >= known
                if known:
                    messages.read({"number": known})

    in_threads(act, range(4))

    assert numbers(page(messages, limit=1000)) == list(range(1, 61))
