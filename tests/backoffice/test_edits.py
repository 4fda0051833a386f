"""An edit in the admin is an update like the API's."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from applications.models import Application
from chats.models import Chat
from chatsystem.backoffice import entity_admin
from chatsystem.writelog import bulk, reads, stream
from chatsystem.writelog import drain as drain_module
from chatsystem.writelog.keys import partition_of
from chatsystem.writelog.models import DeadEvent
from messages_app.admin import MessageAdmin
from messages_app.models import Message
from tests.backoffice.conftest import Browser, told
from tests.support.harness import Tenant, drain_all, in_threads


def change_path(row: object) -> str:
    return f"{row._meta.app_label}/{row._meta.model_name}/{row.pk}/change/"


@pytest.fixture
def message(ours: Tenant, drained: object) -> Message:
    ours.chat()
    ours.message(1, "first\nsecond\r\nthird")
    drained()
    return Message.objects.get()


def test_an_edit_of_each_entity_is_stored_at_once_and_seen_by_the_api(
    ours: Tenant, message: Message, browser: Browser
) -> None:
    before = ours.get("/chats/1/messages/1")

    for row, change in [
        (Application.objects.get(), {"name": "another name"}),
        (Chat.objects.get(), {"title": "another title"}),
        (message, {"body": "another body"}),
    ]:
        assert told(browser.save(change_path(row), **change)) == "The change is stored."

    assert Application.objects.get().name == ours.get()["name"] == "another name"
    assert Chat.objects.get().title == ours.get("/chats/1")["title"] == "another title"
    after = ours.get("/chats/1/messages/1")
    assert after["body"] == Message.objects.get().body == "another body"
    assert after["created_at"] == before["created_at"]
    assert after["last_request_time"] > before["last_request_time"]
    assert Application.objects.get().chats_count == 1
    assert not stream.lengths()


def test_an_edit_goes_through_the_log(message: Message, browser: Browser, state: object) -> None:
    calls = int(state.info("commandstats")["cmdstat_xadd"]["calls"])

    browser.save(change_path(message), body="another body")

    assert int(state.info("commandstats")["cmdstat_xadd"]["calls"]) == calls + 1


def test_a_form_that_nobody_touched_writes_nothing(message: Message, browser: Browser) -> None:
    page = browser.save(change_path(message))

    assert told(page) == "Nothing was changed, so nothing was written."
    stored = Message.objects.get()
    assert stored.body == "first\nsecond\r\nthird"
    assert stored.last_request_time == message.last_request_time


def test_an_edit_keeps_the_newlines_that_nobody_touched(message: Message, browser: Browser) -> None:
    form = browser.form(change_path(message))
    assert form["body"] == "first\r\nsecond\r\nthird"

    browser.save(change_path(message), body="first\r\nsecond, edited\r\nnew\r\nthird")

    assert Message.objects.get().body == "first\nsecond, edited\nnew\r\nthird"


def test_spaces_and_newlines_at_the_ends_are_kept(ours: Tenant, message: Message, browser: Browser) -> None:
    ours.api.patch(f"{ours.path}/chats/1/messages/1", {"body": "\n  old \n"}, format="json")
    browser.save(change_path(message), body="\r\n  new \r\n")

    assert Message.objects.get().body == "\n  new \n"


def test_the_form_shows_what_is_acknowledged_and_not_yet_stored(
    ours: Tenant, message: Message, browser: Browser
) -> None:
    ours.api.patch(f"{ours.path}/chats/1/messages/1", {"body": "pending"}, format="json")

    assert browser.form(change_path(message))["body"] == "pending"
    assert Message.objects.get().body != "pending"


def test_an_untouched_form_does_not_undo_an_update_that_came_meanwhile(
    ours: Tenant, message: Message, browser: Browser
) -> None:
    form = browser.form(change_path(message))
    ours.api.patch(f"{ours.path}/chats/1/messages/1", {"body": "meanwhile"}, format="json")

    browser.post(change_path(message), form)

    assert ours.get("/chats/1/messages/1")["body"] == "meanwhile"


def test_of_an_edit_and_an_update_the_later_arrival_wins(
    ours: Tenant, message: Message, browser: Browser, drained: object
) -> None:
    form = browser.form(change_path(message))
    ours.api.patch(f"{ours.path}/chats/1/messages/1", {"body": "first"}, format="json")
    browser.post(change_path(message), form | {"body": "second"})
    assert Message.objects.get().body == "second"

    ours.api.patch(f"{ours.path}/chats/1/messages/1", {"body": "third"}, format="json")
    drained()
    assert Message.objects.get().body == "third"


def test_a_change_that_is_stored_while_the_form_is_read_is_what_the_form_shows(
    ours: Tenant, message: Message, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a pending change,
    ours.api.patch(f"{ours.path}/chats/1/messages/1", {"body": "newer"}, format="json")
    ask = reads.pending

    def stored_just_before(*args: str) -> reads.Pending | None:
        drain_all()
        return ask(*args)

    # when it is stored after the form has read the row and before it reads the pending view, then it is shown.
    monkeypatch.setattr(reads, "pending", stored_just_before)
    assert browser.form(change_path(message))["body"] == "newer"


def test_an_edit_that_the_drain_does_not_come_to_in_time_is_told_as_accepted(
    ours: Tenant, message: Message, browser: Browser, drained: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a drain with time for one event, and another event before the edit,
    monkeypatch.setattr(drain_module, "BATCH", 1)
    monkeypatch.setattr(entity_admin, "PATIENCE", 0.0)
    ours.chat("before")

    # when somebody edits, then the page says "accepted", until the edit is stored.
    page = browser.save(change_path(message), body="waits")
    assert told(page) == "The change is accepted. The workers will store it."
    assert Message.objects.get().body != "waits"
    drained()
    assert Message.objects.get().body == "waits"


def test_an_edit_waits_for_the_drain_that_is_at_the_partition(
    ours: Tenant, message: Message, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a drain that has stored the events before the edit, but has not committed,
    ours.chat("before")
    storing, edited = threading.Event(), threading.Event()
    store = drain_module.store

    def store_and_wait(events: Any) -> Any:
        refused = store(events)
        if not storing.is_set():
            storing.set()
            assert edited.wait(60)
        return refused

    def work(role: int) -> None:
        if role == 0:
            drain_module.drain([partition_of(ours.token)])
            return
        assert storing.wait(60)
        threading.Timer(0.3, edited.set).start()
        answers.append(told(browser.save(change_path(message), body="waits for its turn")))

    # when somebody edits, then the edit is stored after it, and the page says so.
    answers: list[str] = []
    monkeypatch.setattr(drain_module, "store", store_and_wait)
    in_threads(work, range(2))
    assert answers == ["The change is stored."]


def test_an_edit_that_the_database_refuses_is_told_and_another_dead_event_is_not(
    ours: Tenant, message: Message, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object) -> None:
        raise ValueError("refused by the database")

    with monkeypatch.context() as patched:
        patched.setattr(bulk, "update", refuse)
        page = browser.save(change_path(message), body="refused")

    assert told(page) == "The database refused the change. The reason is on the dead event."
    assert DeadEvent.objects.get().text == "refused"
    assert told(browser.save(change_path(message), body="fine")) == "The change is stored."


def test_an_edit_beyond_what_the_log_may_hold_is_told_as_that(
    ours: Tenant, message: Message, browser: Browser, settings: Any
) -> None:
    ours.chat("waits")
    settings.WRITE_LOG_MAX_EVENTS = 1

    page = browser.save(change_path(message), body="typed for an hour")

    assert "Nothing was saved: too many writes of this application wait to be stored. Try again in a moment." in page
    assert "typed for an hour" in page


def test_an_edit_of_what_nobody_knows_any_more_is_told_and_no_fault(
    message: Message, browser: Browser, state: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given an open form of a message,
    update = MessageAdmin.update

    def gone_meanwhile(admin: MessageAdmin, row: Message, text: str) -> Any:
        state.flushall()
        for model in (Message, Chat, Application):
            model.objects.all().delete()
        return update(admin, row, text)

    monkeypatch.setattr(MessageAdmin, "update", gone_meanwhile)

    # when the message disappears from the database and Redis before the form is saved, then the page says so.
    assert "Perhaps it was deleted?" in told(browser.save(change_path(message), body="late"))


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ("", "This field is required."),
        ("x" * 16_001, "Ensure this field has no more than 16000 characters."),
        ("a\x00b", "Null characters are not allowed."),
    ],
)
def test_what_the_api_refuses_the_admin_refuses(message: Message, browser: Browser, body: str, error: str) -> None:
    page = browser.save(change_path(message), body=body)

    assert error in page
    assert Message.objects.get().last_request_time == message.last_request_time


def test_a_lone_surrogate_is_refused(browser: Browser) -> None:
    from django import forms

    from chatsystem.backoffice.text_field import EntityForm
    from messages_app.serializers import MessageSerializer

    form_class = forms.modelform_factory(Message, form=EntityForm, fields=["body"])
    form_class.text_field, form_class.serializer_class = "body", MessageSerializer

    assert "Surrogate characters" in str(form_class({"body": "a\ud800b"}, instance=Message(body="a")).errors.as_data())


def test_a_body_of_the_longest_is_saved_with_newlines_counted_once(message: Message, browser: Browser) -> None:
    body = "\r\n" * 8_000 + "😀" * 8_000
    browser.save(change_path(message), body=body)

    assert Message.objects.get().body == body.replace("\r\n", "\n")


def test_a_refused_edit_is_told_and_what_was_typed_is_not_lost(
    message: Message, browser: Browser, redis_server: object
) -> None:
    form = browser.form(change_path(message))
    redis_server.kill()
    try:
        page = browser.post(change_path(message), form | {"body": "typed <b>for</b> an hour"})
        shown = browser.page(change_path(message))
    finally:
        redis_server.start()

    assert "Nothing was saved: the state Redis is down." in page
    assert "typed &lt;b&gt;for&lt;/b&gt; an hour" in page
    assert "The state Redis is down. Nothing can be saved now" in told(shown)
    assert Message.objects.get().last_request_time == message.last_request_time


def test_one_who_may_only_look_sees_all_and_changes_nothing(message: Message, viewer: Browser) -> None:
    page = viewer.page(change_path(message))
    assert "first<br>second<br>third" in page
    assert "<textarea" not in page

    assert viewer.client.post(f"/admin/{change_path(message)}", {"body": "mine"}).status_code == 403
    assert Message.objects.get().body.startswith("first")


def test_nothing_is_added_or_deleted(message: Message, browser: Browser) -> None:
    for row in [Application.objects.get(), Chat.objects.get(), message]:
        section = f"/admin/{row._meta.app_label}/{row._meta.model_name}"
        assert browser.client.get(f"{section}/add/").status_code == 403
        assert browser.client.post(f"{section}/{row.pk}/delete/", {"post": "yes"}).status_code == 403
    assert Message.objects.count() == 1


def test_numbers_tokens_and_times_cannot_be_posted(ours: Tenant, message: Message, browser: Browser) -> None:
    browser.save(change_path(message), body="new", number="77", created_at="2001-01-01", last_request_time="2001-01-01")

    after = Message.objects.get()
    assert (after.number, after.created_at, after.body) == (1, message.created_at, "new")
