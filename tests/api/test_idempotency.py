"""The Idempotency-Key: a repeated request is one write with one response."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from chatsystem.writelog.keys import partition_of
from tests.support.harness import Tenant, in_threads
from tests.support.places import UNKNOWN_TOKEN, Place, assert_error, each_refuses, local, nothing_left_behind, place_of

KEY = {"Idempotency-Key": "the key"}


def count(place: Place) -> int:
    return len(place.api.get(place.path, {"limit": 1000}).json()["results"])


def test_a_repeated_create_gets_the_first_answer_again(place: Place, settle: Callable, drained: Callable) -> None:
    first = place.send("text", **KEY)
    assert first.status_code == 201
    assert "Idempotent-Replayed" not in first.headers
    settle()

    with nothing_left_behind():
        again = place.send("text", **KEY)

    assert again.status_code == 201
    assert again.content == first.content
    assert again.headers["Location"] == first.headers["Location"]
    assert again.headers["Idempotent-Replayed"] == "true"


def test_a_repeated_create_after_a_change_still_gets_the_first_answer(place: Place, settle: Callable) -> None:
    first = place.send("text", **KEY)
    place.change(first.json(), "changed")
    settle()

    again = place.send("text", **KEY)

    assert again.content == first.content
    assert place.read(first.json())[place.kind.field] == "changed"


def test_a_repeated_batch_gets_the_first_answer_again(messages: Place, settle: Callable) -> None:
    batch = [{"body": "one"}, {"body": "two"}, {"body": "three"}]
    first = messages.api.post(messages.path, batch, format="json", headers=KEY)
    messages.create("between")
    settle()

    again = messages.api.post(messages.path, batch, format="json", headers=KEY)

    assert again.status_code == 201
    assert again.content == first.content
    assert "Location" not in again.headers
    assert again.headers["Idempotent-Replayed"] == "true"
    assert count(messages) == 4


def test_a_key_with_another_body_is_refused(place: Place, settle: Callable) -> None:
    first = place.send("text", **KEY)
    settle()

    with nothing_left_behind():
        assert_error(place.send("other", **KEY), 422, "idempotency_key_reused")

    # The rejection did not affect the first response.
    assert place.send("text", **KEY).content == first.content


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"body": "one"}, [{"body": "one"}]),
        ([{"body": "one"}], {"body": "one"}),
        ([{"body": "one"}, {"body": "two"}], [{"body": "two"}, {"body": "one"}]),
        ([{"body": "one"}, {"body": "two"}], [{"body": "one"}]),
        ([{"body": "one"}, {"body": "two"}], [{"body": 'one", "two'}]),
        ({"body": "one"}, {"body": "one "}),
        ({"body": "e\u0301"}, {"body": "\u00e9"}),
    ],
    ids=repr,
)
def test_bodies_that_look_alike_are_not_the_same(messages: Place, first: Any, second: Any) -> None:
    messages.api.post(messages.path, first, format="json", headers=KEY)

    with nothing_left_behind():
        response = messages.api.post(messages.path, second, format="json", headers=KEY)

    assert_error(response, 422, "idempotency_key_reused")


def test_within_an_application_a_key_belongs_to_one_route(ours: Tenant) -> None:
    """Keys belong to the application, not the route. A chat and a message under one key are a reused key."""
    messages = place_of("message", ours)
    ours.chat("text", **KEY)

    assert_error(messages.send("text", **KEY), 422, "idempotency_key_reused")
    other_chat = ours.api.post(f"{ours.path}/chats/2/messages", {"body": "text"}, format="json", headers=KEY)
    assert_error(other_chat, 422, "idempotency_key_reused")


def test_the_same_key_of_another_application_is_another_key(ours: Tenant, theirs: Tenant, settle: Callable) -> None:
    ours.chat("ours", **KEY)
    settle()

    response = place_of("chat", theirs).send("theirs", **KEY)

    assert response.status_code == 201
    assert "Idempotent-Replayed" not in response.headers
    assert (response.json()["number"], response.json()["title"]) == (2, "theirs")


def test_keys_stay_apart_where_applications_share_a_partition(ours: Tenant) -> None:
    while True:
        neighbour = Tenant.new(ours.api, "neighbour")
        if partition_of(neighbour.token) == partition_of(ours.token):
            break
    ours.chat("text", **KEY)

    response = place_of("chat", neighbour).send("text", **KEY)

    assert response.status_code == 201
    assert "Idempotent-Replayed" not in response.headers


def test_the_servers_keys_are_not_those_of_any_application(ours: Tenant) -> None:
    applications, chats = place_of("application", ours), place_of("chat", ours)

    first = applications.send("text", **KEY)
    second = chats.send("text", **KEY)

    assert (first.status_code, second.status_code) == (201, 201)
    assert "Idempotent-Replayed" not in second.headers


def test_twenty_at_once_make_one_row_and_get_one_answer(place: Place, drained: Callable) -> None:
    drained()
    before = count(place)
    answers = []

    in_threads(lambda _: answers.append(place.send("text", **KEY)), range(20))

    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.content for answer in answers}) == 1
    assert sum("Idempotent-Replayed" not in answer.headers for answer in answers) == 1
    drained()
    assert count(place) == before + 1


@pytest.mark.parametrize("wrong", ["", 7, None, "x" * 16_001])
def test_a_refused_request_does_not_use_its_key_up(place: Place, wrong: object) -> None:
    assert place.send(wrong, **KEY).status_code == 400

    response = place.send("text", **KEY)

    assert response.status_code == 201
    assert "Idempotent-Replayed" not in response.headers


def test_a_request_for_an_unknown_parent_does_not_use_its_key_up(ours: Tenant) -> None:
    path = f"{ours.path}/chats/1/messages"
    assert_error(ours.api.post(path, {"body": "text"}, format="json", headers=KEY), 404, "not_found")
    ours.chat()

    assert ours.message(1, "text", **KEY)["number"] == 1


@pytest.mark.parametrize(
    "key", ["", "k" * 256, "a\tb", "a\x7fb", "a\x01", "schlüssel", "κ", "😀"], ids=lambda key: ascii(key)[:12]
)
def test_a_key_that_is_none_is_refused_by_name(places: list[Place], key: str) -> None:
    # WSGI decodes header bytes as Latin-1.
    headers = {"Idempotency-Key": key.encode().decode("latin-1")}

    each_refuses(places, lambda place: place.send("text", **headers), 400, "invalid", "Idempotency-Key")


def test_the_refusal_of_a_batchs_key_names_the_header(messages: Place) -> None:
    batch = [{"body": "one"}]

    response = messages.api.post(messages.path, batch, format="json", headers={"Idempotency-Key": ""})

    assert_error(response, 400, "invalid", "Idempotency-Key")


@pytest.mark.parametrize("key", ["k", "k" * 255, "a b", "~!@#$%^&*(){}[]", " "], ids=lambda key: repr(key)[:12])
def test_every_other_printable_key_works(chats: Place, key: str) -> None:
    first = chats.send("text", **{"Idempotency-Key": key})

    assert first.status_code == 201
    assert chats.send("text", **{"Idempotency-Key": key}).content == first.content


@pytest.mark.parametrize(
    ("header", "seconds"), [("Idempotency-Key", 24 * 60 * 60), ("Proxy-Request-Id", 60), (None, 60)]
)
def test_a_key_is_kept_for_24_hours_and_any_other_name_of_a_request_for_a_minute(
    place: Place, state: Any, header: str | None, seconds: int
) -> None:
    before = set(state.keys("*:receipt:*"))
    place.create("text", **({} if header is None else {header: "the key"}))

    [receipt] = set(state.keys("*:receipt:*")) - before
    # At most a minute has passed, however slow the machine is.
    assert seconds - 60 < state.ttl(receipt) <= seconds


def test_what_a_proxy_calls_a_request_is_no_key_of_a_client(place: Place) -> None:
    place.create("a proxy's", **{"Proxy-Request-Id": "the key"})

    response = place.send("a client's", **KEY)

    assert response.status_code == 201
    assert "Idempotent-Replayed" not in response.headers


def test_keys_that_differ_only_in_case_or_length_are_different(chats: Place) -> None:
    keys = ["key", "KEY", "key1", "k" * 255, "k" * 254]

    numbers = [chats.create("text", **{"Idempotency-Key": key})["number"] for key in keys]

    assert numbers == [1, 2, 3, 4, 5]


def test_a_change_takes_no_notice_of_a_key(chats: Place) -> None:
    created = chats.create("old", **KEY)

    response = chats.api.patch(chats.item(created), {"title": "new"}, format="json", headers=KEY)

    assert response.status_code == 200
    assert "Idempotent-Replayed" not in response.headers


def test_the_replay_of_a_location_can_be_followed(place: Place, settle: Callable) -> None:
    place.send("text", **KEY)
    settle()

    again = place.send("text", **KEY)

    assert place.api.get(local(again.headers["Location"])).json() == again.json()


def test_an_unknown_application_has_no_keys(ours: Tenant) -> None:
    with nothing_left_behind():
        response = ours.api.post(f"/applications/{UNKNOWN_TOKEN}/chats", {"title": "x"}, format="json", headers=KEY)

    assert_error(response, 404, "not_found")
