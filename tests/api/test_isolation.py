"""No application ever sees or changes another's data, whatever numbers and keys it uses."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

import pytest

from tests.support.harness import Tenant, drain_all
from tests.support.places import assert_error, place_of

#: Every route of an application, with a body that it accepts.
READS = ["", "/chats", "/chats/{n}", "/chats/{n}/messages", "/chats/{n}/messages/{n}"]


def all_of(tenant: Tenant) -> str:
    """Returns everything of chat 1 except counts, which a drain for another application of the partition may change."""
    answers = [json.dumps(tenant.get(path.format(n=1))) for path in READS]
    return re.sub(r'"(chats|messages)_count": \d+', "", "".join(answers))


@pytest.fixture
def neighbours(ours: Tenant, theirs: Tenant, settle: Callable) -> tuple[Tenant, Tenant]:
    """Ours with one chat and no message; theirs with two chats, and messages in both."""
    ours.chat("ours")
    theirs.chat("theirs")
    theirs.message(2, "theirs")
    settle()
    return ours, theirs


def test_no_read_of_ours_shows_anything_of_theirs(neighbours: tuple[Tenant, Tenant]) -> None:
    ours, _ = neighbours

    for n in (1, 2, 3):
        for path in READS:
            assert b"theirs" not in ours.api.get(f"{ours.path}{path.format(n=n)}").content

    assert [chat["title"] for chat in ours.get("/chats")["results"]] == ["ours"]
    assert ours.get("/chats/1/messages")["results"] == []


def test_their_numbers_are_not_there_under_our_token(neighbours: tuple[Tenant, Tenant]) -> None:
    ours, theirs = neighbours
    before = all_of(theirs)

    for path in ("/chats/2", "/chats/2/messages", "/chats/2/messages/1", "/chats/1/messages/1"):
        assert_error(ours.api.get(f"{ours.path}{path}"), 404, "not_found")
    for path in ("/chats/2", "/chats/2/messages/1", "/chats/1/messages/1"):
        response = ours.api.patch(f"{ours.path}{path}", {"title": "ours", "body": "ours"}, format="json")
        assert_error(response, 404, "not_found")
    response = ours.api.post(f"{ours.path}/chats/2/messages", {"body": "ours"}, format="json")
    assert_error(response, 404, "not_found")

    assert all_of(theirs) == before
    drain_all()
    assert all_of(theirs) == before
    assert [message["body"] for message in theirs.get("/chats/2/messages")["results"]] == ["theirs"]


def test_the_same_numbers_are_different_entities(neighbours: tuple[Tenant, Tenant], settle: Callable) -> None:
    ours, theirs = neighbours
    before = theirs.get("/chats/1"), theirs.get("/chats/1/messages")

    message = ours.message(1, "ours")
    place_of("message", ours).change(message, "ours, changed")
    chat = ours.get("/chats/1")
    place_of("chat", ours).change(chat, "ours, changed")
    ours.api.patch(ours.path, {"name": "ours, changed"}, format="json")
    settle()

    assert (theirs.get("/chats/1"), theirs.get("/chats/1/messages")) == before
    assert theirs.get()["name"] == "theirs"
    assert [message["body"] for message in ours.get("/chats/1/messages")["results"]] == ["ours, changed"]
    assert ours.get("/chats/1")["title"] == "ours, changed"
    assert ours.get()["name"] == "ours, changed"


def test_numbers_of_one_application_do_not_move_anothers(neighbours: tuple[Tenant, Tenant]) -> None:
    ours, theirs = neighbours

    assert [ours.chat()["number"] for _ in range(3)] == [2, 3, 4]
    assert theirs.chat()["number"] == 3
    assert ours.message(1)["number"] == 1
    assert theirs.message(1)["number"] == 2


def test_a_body_cannot_name_another_application(neighbours: tuple[Tenant, Tenant], drained: Callable) -> None:
    ours, theirs = neighbours
    body = {"token": theirs.token, "application": theirs.token, "application_token": theirs.token, "chat_number": 2}

    ours.api.post(f"{ours.path}/chats", {**body, "title": "ours", "number": 2}, format="json")
    ours.api.post(f"{ours.path}/chats/1/messages", {**body, "body": "ours", "number": 2}, format="json")
    ours.api.patch(ours.path, {**body, "name": "ours"}, format="json")
    drained()

    assert theirs.get()["name"] == "theirs"
    assert len(theirs.get("/chats")["results"]) == 2
    assert len(theirs.get("/chats/2/messages")["results"]) == 1
    assert ours.get()["token"] == ours.token


def test_applications_that_share_a_partition_stay_apart(ours: Tenant, settle: Callable) -> None:
    from chatsystem.writelog.keys import partition_of

    while True:
        neighbour = Tenant.new(ours.api, "neighbour")
        if partition_of(neighbour.token) == partition_of(ours.token):
            break
    ours.chat("ours")
    ours.message(1, "ours")
    settle()

    assert neighbour.get("/chats")["results"] == []
    assert_error(neighbour.api.get(f"{neighbour.path}/chats/1/messages"), 404, "not_found")
    assert neighbour.chat("neighbour")["number"] == 1
    assert neighbour.get("/chats/1/messages")["results"] == []
    assert ours.get("/chats/1")["title"] == "ours"
