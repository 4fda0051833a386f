"""Once a write is acknowledged, every read by token or number and every list of chats or messages shows it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from chatsystem.writelog import reads
from tests.support.harness import Tenant, drain_all, in_threads
from tests.support.places import Place, place_of


def test_a_child_can_be_posted_to_a_parent_acknowledged_just_now(api: object, ours: Tenant, settle: Callable) -> None:
    for i in range(5):
        tenant = Tenant.new(ours.api, str(i))
        chat = tenant.chat("chat")
        message = tenant.message(chat["number"], "message")
        batch = tenant.batch(chat["number"], ["one", "two"])

        assert tenant.get()["name"] == str(i)
        assert tenant.get("/chats")["results"] == [chat]
        assert tenant.get("/chats/1") == chat
        assert tenant.get("/chats/1/messages")["results"] == [message, *batch]
        assert tenant.get("/chats/1/messages/3") == batch[1]
        settle()
        assert tenant.get("/chats/1/messages")["results"] == [message, *batch]
        # With a stored parent and with an unstored one.
        assert tenant.message(1, "after")["number"] == 4
        assert tenant.chat()["number"] == 2


def test_a_list_shows_stored_changed_and_waiting_rows_side_by_side(messages: Place) -> None:
    expected = [messages.create(f"stored {i}") for i in range(3)]
    drain_all()
    expected += [messages.create(f"waiting {i}") for i in range(3)]
    for i in (1, 4):
        expected[i] = messages.change(expected[i], "changed")

    for limit in (1, 2, 3, 4, 6):
        for after in range(6):
            page = messages.api.get(messages.path, {"after": after, "limit": limit}).json()["results"]
            assert page == expected[after : after + limit]
            page = messages.api.get(messages.path, {"before": after + 1, "limit": limit, "order": "desc"}).json()
            assert page["results"] == expected[max(0, after - limit) : after][::-1]


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_drain_in_the_middle_of_a_read_hides_nothing(
    places: list[Place], monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """Reads use the pending view first and the database second. The other order would miss a row drained in between."""

    def with_a_drain(read: Callable) -> Callable:
        def wrapped(*args: Any) -> Any:
            if moment == "before":
                drain_all()
            found = read(*args)
            if moment == "after":
                drain_all()
            return found

        return wrapped

    for place in places:
        created = place.create("created")
        with monkeypatch.context() as patch:
            for name in ("pending", "pending_children"):
                patch.setattr(reads, name, with_a_drain(getattr(reads, name)))
            assert place.read(created) == created
        changed = place.change(created, "changed")
        waiting = place.create("waiting")
        with monkeypatch.context() as patch:
            for name in ("pending", "pending_children"):
                patch.setattr(reads, name, with_a_drain(getattr(reads, name)))
            if "number" in created:
                assert place.api.get(place.path).json()["results"][-2:] == [changed, waiting]
            assert place.read(changed) == changed
            assert place.change(changed, "again")["last_request_time"] > changed["last_request_time"]


def test_counts_follow_with_the_drain(ours: Tenant, drained: Callable) -> None:
    ours.chat()
    ours.chat()
    ours.batch(1, ["one", "two", "three"])

    drained()

    assert ours.get()["chats_count"] == 2
    assert [chat["messages_count"] for chat in ours.get("/chats")["results"]] == [3, 0]
    ours.message(2)
    drained()
    assert [chat["messages_count"] for chat in ours.get("/chats")["results"]] == [3, 1]


def test_no_reader_sees_an_older_text_than_the_acknowledged_one_while_drains_drain(ours: Tenant) -> None:
    place = place_of("message", ours)
    created = place.create("0")
    done = threading.Event()
    acknowledged = [0]

    def act(role: int) -> None:
        if role == 0:
            try:
                for i in range(1, 80):
                    assert place.change(created, str(i))["body"] == str(i)
                    acknowledged[0] = i
            finally:
                done.set()
        elif role == 1:
            while not done.is_set():
                drain_all()
        else:
            while not done.is_set():
                known = acknowledged[0]
                if role == 2:
                    entity = place.read(created)
                else:
                    (entity,) = place.api.get(place.path).json()["results"]
                assert int(entity["body"]) >= known
                assert entity["created_at"] == created["created_at"]

    in_threads(act, range(4))

    drain_all()
    assert place.read(created)["body"] == "79"


def test_what_sixteen_clients_post_at_once_is_each_under_the_number_that_it_was_given(messages: Place) -> None:
    given: dict[int, str] = {}

    def client(i: int) -> None:
        for turn in range(5):
            message = messages.create(f"{i} {turn}")
            assert messages.read(message) == message
            given[message["number"]] = message["body"]
            if i == 0:
                drain_all()

    in_threads(client, range(16))

    assert sorted(given) == list(range(1, 81))
    listed = messages.api.get(messages.path, {"limit": 1000}).json()["results"]
    assert {message["number"]: message["body"] for message in listed} == given
