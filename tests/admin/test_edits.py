"""An edit in the admin is an update like the API's."""

from __future__ import annotations

import pytest

from applications.models import Application
from chats.models import Chat
from chatsystem.writelog import log
from messages_app.models import Message
from tests.admin.conftest import Browser, told
from tests.bench import Tenant


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
    assert not log.lengths()


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

    from chatsystem.backoffice.texts import EntityForm
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

    assert "Nothing was saved: the state Redis is away." in page
    assert "typed &lt;b&gt;for&lt;/b&gt; an hour" in page
    assert "The state Redis is away: nothing can be saved now" in told(shown)
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
