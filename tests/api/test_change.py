"""PATCH of one application, chat or message."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

import pytest

from tests.support.harness import Tenant
from tests.support.places import MOMENT, UNKNOWN_TOKEN, Place, assert_error, nothing_left_behind, place_of, refused


def moment(text: str) -> datetime:
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%S.%fZ")


def test_a_change_answers_the_whole_representation(place: Place, settle: Callable) -> None:
    created = place.create("old")
    settle()

    changed = place.change(created, "new")

    assert tuple(changed) == place.kind.keys
    assert changed[place.kind.field] == "new"
    assert MOMENT.fullmatch(changed["last_request_time"])
    rest = set(place.kind.keys) - {place.kind.field, "last_request_time"}
    assert {key: changed[key] for key in rest} == {key: created[key] for key in rest}


def test_a_change_is_read_as_it_was_answered(place: Place, settle: Callable) -> None:
    created = place.create("old")
    settle()
    changed = place.change(created, "new")

    # Read before anything can be stored, and again when everything is stored.
    assert place.read(created) == changed
    settle()
    assert place.read(created) == changed


def test_each_change_moves_the_last_request_time_even_when_the_text_stays(place: Place, settle: Callable) -> None:
    created = place.create("text")
    times = [created["last_request_time"]]

    for _ in range(5):
        times.append(place.change(created, "text")["last_request_time"])
        settle()

    moments = [moment(time) for time in times]
    assert moments == sorted(set(moments))
    assert place.read(created)["last_request_time"] == times[-1]
    assert place.read(created)["created_at"] == created["created_at"]


def test_the_last_of_many_changes_wins(place: Place, settle: Callable) -> None:
    created = place.create("0")
    for i in range(1, 20):
        place.change(created, str(i))
        if i == 10:
            settle()

    assert place.read(created)[place.kind.field] == "19"
    settle()
    assert place.read(created)[place.kind.field] == "19"


def test_children_do_not_move_their_parents_time(ours: Tenant, settle: Callable) -> None:
    application = ours.get()
    chat = ours.chat()
    settle()

    message = ours.message(chat["number"])
    ours.batch(chat["number"], ["one", "two"])
    place_of("message", ours).change(message, "new")
    place_of("chat", ours).create()
    settle()

    assert ours.get("/chats/1")["last_request_time"] == chat["last_request_time"]
    assert ours.get()["last_request_time"] == application["last_request_time"]


def test_a_trailing_slash_makes_no_difference_to_a_change(place: Place) -> None:
    created = place.create("old")

    response = place.api.patch(f"{place.item(created)}/", {place.kind.field: "new"}, format="json")

    assert response.status_code == 200
    assert place.read(created) == response.json()


def test_unknown_and_read_only_fields_are_not_changed(place: Place, settle: Callable) -> None:
    created = place.create("old")
    settle()
    given = {
        **dict.fromkeys(place.kind.keys, 7),
        "id": 7,
        "created_at": "2001-01-01T00:00:00.000000Z",
        "last_request_time": "2001-01-01T00:00:00.000000Z",
        place.kind.field: "new",
    }

    response = place.api.patch(place.item(created), given, format="json")
    settle()

    rest = set(place.kind.keys) - {place.kind.field, "last_request_time"}
    assert {key: response.json()[key] for key in rest} == {key: created[key] for key in rest}
    assert response.json()["last_request_time"] > created["last_request_time"]
    assert place.read(created) == response.json()


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({}, "required"),
        ({"other": "text"}, "required"),
        ({"FIELD": None}, "null"),
        ({"FIELD": ""}, "blank"),
        ({"FIELD": 7}, "invalid"),
        ({"FIELD": ["text"]}, "invalid"),
        ({"FIELD": "a\0b"}, "null_characters_not_allowed"),
    ],
    ids=repr,
)
def test_a_change_without_a_proper_text_is_refused(place: Place, settle: Callable, body: dict, code: str) -> None:
    created = place.create("old")
    settle()
    body = {place.kind.field if key == "FIELD" else key: value for key, value in body.items()}

    refused(place, lambda place: place.api.patch(place.item(created), body, format="json"), 400, code, place.kind.field)

    assert place.read(created) == created


@pytest.mark.parametrize("body", [[], [{"FIELD": "new"}], None, 7, True, "text"], ids=repr)
def test_a_change_that_is_no_object_is_refused(place: Place, body: object) -> None:
    created = place.create("old")
    if isinstance(body, list) and body:
        body = [{place.kind.field: "new"}]

    with nothing_left_behind():
        response = place.api.patch(place.item(created), body, format="json")
        if body is None:
            # The test client sends no body at all for None.
            response = place.api.generic("PATCH", place.item(created), b"null", "application/json")

    assert response.status_code == 400
    assert response.json()["type"] == "validation_error"
    assert response.json()["errors"][0]["attr"] == "non_field_errors"


@pytest.mark.parametrize("path", ["", "/chats/1", "/chats/1/messages/1"])
def test_what_is_not_there_cannot_be_changed(ours: Tenant, path: str, drained: Callable) -> None:
    drained()
    with nothing_left_behind():
        response = ours.api.patch(
            f"/applications/{UNKNOWN_TOKEN}{path}", {"name": "x", "title": "x", "body": "x"}, format="json"
        )

    assert_error(response, 404, "not_found")


@pytest.mark.parametrize(
    "path", ["/chats/2", "/chats/1/messages/2", "/chats/2/messages/1", "/chats/9223372036854775807"]
)
def test_a_number_that_was_never_given_cannot_be_changed(ours: Tenant, path: str, settle: Callable) -> None:
    ours.chat()
    ours.message(1)
    settle()

    with nothing_left_behind():
        response = ours.api.patch(f"{ours.path}{path}", {"title": "x", "body": "x"}, format="json")

    assert_error(response, 404, "not_found")
