"""POST of an array of messages: consecutive numbers, all or nothing."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest

from chatsystem.writelog import stream
from tests.support.harness import Tenant, in_threads
from tests.support.places import UNKNOWN_TOKEN, Place, assert_error, nothing_left_behind, refused


def post(messages: Place, batch: Any, **headers: str) -> Any:
    return messages.api.post(messages.path, batch, format="json", headers=headers)


def bodies(count: int) -> list[dict[str, str]]:
    return [{"body": f"body {i}"} for i in range(1, count + 1)]


def test_a_batch_answers_its_messages_in_order_without_a_location(messages: Place, settle: Callable) -> None:
    messages.create("before")

    response = post(messages, bodies(3))
    settle()

    assert response.status_code == 201
    assert "Location" not in response.headers
    answer = response.json()
    assert [(message["number"], message["body"]) for message in answer] == [(2, "body 1"), (3, "body 2"), (4, "body 3")]
    assert all(tuple(message) == messages.kind.keys for message in answer)
    assert all(before["created_at"] < after["created_at"] for before, after in pairwise(answer))
    assert [messages.read(message) for message in answer] == answer


def test_a_batch_of_one_is_still_an_array(messages: Place) -> None:
    response = post(messages, bodies(1))

    assert response.status_code == 201
    assert [message["number"] for message in response.json()] == [1]
    assert "Location" not in response.headers


def test_a_batch_of_a_thousand_gets_a_thousand_numbers(messages: Place, settle: Callable) -> None:
    response = post(messages, bodies(1000))
    settle()

    assert response.status_code == 201
    assert [message["number"] for message in response.json()] == list(range(1, 1001))
    listed = messages.api.get(messages.path, {"limit": 1000}).json()
    assert listed["results"] == response.json()
    assert listed["next"] is None


def test_a_batch_of_more_than_a_thousand_is_refused(messages: Place) -> None:
    refused(messages, lambda place: post(messages, bodies(1001)), 400, "max_length", "non_field_errors")


def test_an_empty_batch_is_refused(messages: Place) -> None:
    refused(messages, lambda place: post(messages, []), 400, "empty", "non_field_errors")


@pytest.mark.parametrize(
    ("element", "code", "attr"),
    [
        ({}, "required", "body"),
        ({"body": None}, "null", "body"),
        ({"body": 7}, "invalid", "body"),
        ({"body": ""}, "blank", "body"),
        ({"body": "x" * 16_001}, "max_length", "body"),
        ({"body": "a\0b"}, "null_characters_not_allowed", "body"),
        ("text", "invalid", "non_field_errors"),
        (None, "null", ""),
        ([], "invalid", "non_field_errors"),
        ([{"body": "x"}], "invalid", "non_field_errors"),
        (7, "invalid", "non_field_errors"),
    ],
    ids=lambda value: repr(value)[:20],
)
def test_a_batch_with_a_wrong_element_is_refused_whole_and_names_its_index(
    messages: Place, element: object, code: str, attr: str
) -> None:
    batch = [*bodies(5), element, *bodies(5)]

    answer = refused(messages, lambda place: post(messages, batch), 400, code, f"5.{attr}".rstrip("."))

    assert len(answer["errors"]) == 1


def test_each_wrong_element_of_a_batch_is_named(messages: Place) -> None:
    batch = [{"body": 1}, {"body": "good"}, {}, {"body": ""}]

    answer = refused(messages, lambda place: post(messages, batch), 400, "invalid", "0.body")

    assert [error["attr"] for error in answer["errors"]] == ["0.body", "2.body", "3.body"]


@pytest.mark.parametrize("path", [f"/applications/{UNKNOWN_TOKEN}/chats/1/messages", "{}/chats/2/messages"])
def test_a_batch_for_an_unknown_chat_is_refused(ours: Tenant, drained: Callable, path: str) -> None:
    ours.chat()
    drained()

    with nothing_left_behind():
        response = ours.api.post(path.format(ours.path), bodies(3), format="json")

    assert_error(response, 404, "not_found")


@pytest.mark.parametrize("kind", ["application", "chat"])
def test_only_messages_come_in_batches(ours: Tenant, kind: str) -> None:
    path, field = ("/applications", "name") if kind == "application" else (f"{ours.path}/chats", "title")

    with nothing_left_behind():
        response = ours.api.post(path, [{field: "one"}, {field: "two"}], format="json")

    assert_error(response, 400, "invalid", "non_field_errors")


def test_a_batch_that_the_log_has_no_room_for_is_refused_whole(messages: Place, settings: Any) -> None:
    messages.create("before")
    (length,) = [length for partition, length in stream.lengths().items() if length > 1]
    settings.WRITE_LOG_MAX_EVENTS = length + 4

    with nothing_left_behind():
        response = post(messages, bodies(5))

    assert_error(response, 503, "service_unavailable")
    assert int(response.headers["Retry-After"]) > 0
    assert [message["number"] for message in post(messages, bodies(4)).json()] == [2, 3, 4, 5]


def test_batches_and_single_messages_at_once_share_one_dense_run(messages: Place, drained: Callable) -> None:
    given: dict[int, str] = {}

    def client(i: int) -> None:
        for turn in range(4):
            batch = [{"body": f"{i} {turn} {j}"} for j in range(1 + (i + turn) % 5)]
            answer = post(messages, batch).json() if len(batch) > 1 else [messages.create(batch[0]["body"])]
            numbers = [message["number"] for message in answer]
            assert numbers == list(range(numbers[0], numbers[0] + len(batch)))
            given.update({message["number"]: message["body"] for message in answer})

    in_threads(client, range(8))

    assert sorted(given) == list(range(1, len(given) + 1))
    drained()
    listed = messages.api.get(messages.path, {"limit": 1000}).json()["results"]
    assert {message["number"]: message["body"] for message in listed} == given
