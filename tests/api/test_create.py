"""POST of one application, chat or message."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from chatsystem.writelog.keys import Keys, partition_of
from tests.support.harness import Tenant
from tests.support.places import (
    FIELD,
    MOMENT,
    UNKNOWN_TOKEN,
    Place,
    assert_error,
    each_refuses,
    local,
    nothing_left_behind,
    place_of,
)


def test_a_create_answers_the_whole_representation(place: Place) -> None:
    response = place.send("text")

    assert response.status_code == 201
    created = response.json()
    assert tuple(created) == place.kind.keys
    assert created[place.kind.field] == "text"
    assert MOMENT.fullmatch(created["created_at"])
    assert created["last_request_time"] == created["created_at"]


def test_the_location_of_a_create_leads_to_what_was_created(place: Place, settle: Callable) -> None:
    response = place.send("text")
    settle()

    assert place.api.get(local(response.headers["Location"])).json() == response.json()
    assert local(response.headers["Location"]) == place.item(response.json())


def test_the_location_is_on_the_host_that_the_client_used(place: Place) -> None:
    response = place.send("text", Host="localhost:8123")

    assert response.headers["Location"] == f"http://localhost:8123{place.item(response.json())}"


def test_a_time_on_the_full_second_has_six_digits_too(ours: Tenant, state: Any, settle: Callable) -> None:
    # Given a clock at the last microsecond of a future second,
    clock = Keys(partition_of(ours.token)).clock
    second = int(state.get(clock)) // 1_000_000 + 3_600
    state.set(clock, second * 1_000_000 - 1)

    chat = ours.chat()
    settle()

    assert chat["created_at"].endswith(f":{second % 60:02}.000000Z")
    assert ours.get("/chats/1") == chat
    assert ours.get("/chats")["results"] == [chat]


def test_a_create_is_read_as_it_was_answered(place: Place, settle: Callable) -> None:
    created = place.create("text")
    settle()

    assert place.read(created) == created


def test_a_trailing_slash_makes_no_difference_to_a_create(place: Place) -> None:
    response = place.api.post(f"{place.path}/", {place.kind.field: "text"}, format="json")

    assert response.status_code == 201
    assert local(response.headers["Location"]) == place.item(response.json())
    assert place.read(response.json()) == response.json()


def test_unknown_and_read_only_fields_are_ignored(place: Place, settle: Callable) -> None:
    given = {
        **dict.fromkeys(place.kind.keys, 7),
        "id": 7,
        "pk": 7,
        "recount_due": True,
        "application": UNKNOWN_TOKEN,
        "created_at": "2001-01-01T00:00:00.000000Z",
        place.kind.field: "text",
        "unknown": {"deep": [1, 2, None]},
    }

    response = place.api.post(place.path, given, format="json")
    settle()

    assert response.status_code == 201
    created = response.json()
    assert tuple(created) == place.kind.keys
    assert created["created_at"] > "2020"
    assert created.get("token", "") != 7
    assert created.get("number", 1) == 1
    assert created.get("messages_count", 0) == created.get("chats_count", 0) == 0
    assert place.read(created) == created


@pytest.mark.parametrize("kind", ["chat", "message"])
def test_numbers_go_up_one_by_one_from_one(kind: str, ours: Tenant, settle: Callable) -> None:
    place = place_of(kind, ours)
    first = place.create()["number"]
    settle()

    assert [first, place.create()["number"], place.create()["number"]] == [1, 2, 3]


def test_each_application_gets_a_token_of_its_own(api: object, ours: Tenant, theirs: Tenant) -> None:
    assert ours.token != theirs.token
    for tenant in (ours, theirs):
        assert len(tenant.token) == 32
        assert set(tenant.token) <= set("0123456789abcdef")


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (None, "null"),
        (True, "invalid"),
        (7, "invalid"),
        (1.5, "invalid"),
        ([], "invalid"),
        ({}, "invalid"),
        ("", "blank"),
    ],
    ids=repr,
)
def test_a_field_that_is_no_text_is_refused(places: list[Place], text: object, code: str) -> None:
    each_refuses(places, lambda place: place.send(text), 400, code, FIELD)


@pytest.mark.parametrize("body", [{}, {"other": "text"}], ids=repr)
def test_a_missing_field_is_named(places: list[Place], body: object) -> None:
    each_refuses(places, lambda place: place.api.post(place.path, body, format="json"), 400, "required", FIELD)


@pytest.mark.parametrize("path", ["chats", "chats/1/messages"])
def test_nothing_can_be_posted_to_an_unknown_application(ours: Tenant, path: str, settle: Callable) -> None:
    ours.chat()
    settle()

    with nothing_left_behind():
        response = ours.api.post(
            f"/applications/{UNKNOWN_TOKEN}/{path}", {"title": "text", "body": "text"}, format="json"
        )

    assert_error(response, 404, "not_found")


def test_nothing_can_be_posted_to_an_unknown_chat(ours: Tenant, drained: Callable) -> None:
    ours.chat()
    drained()

    with nothing_left_behind():
        response = ours.api.post(f"{ours.path}/chats/2/messages", {"body": "text"}, format="json")

    assert_error(response, 404, "not_found")
    assert ours.chat()["number"] == 2


def test_an_unknown_chat_stays_unknown_while_the_log_holds_other_writes(ours: Tenant) -> None:
    ours.chat()

    response = ours.api.post(f"{ours.path}/chats/2/messages", {"body": "text"}, format="json")

    assert_error(response, 404, "not_found")
    assert_error(ours.api.get(f"{ours.path}/chats/2/messages"), 404, "not_found")
    # The chat that gets this number later must not inherit anything.
    assert ours.chat()["number"] == 2
    assert ours.get("/chats/2/messages")["results"] == []
    assert ours.message(2)["number"] == 1
