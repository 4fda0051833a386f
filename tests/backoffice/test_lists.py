"""Lists in the admin: search, filters, actions, and escaping."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from applications.models import Application
from chats.models import Chat
from chatsystem.backoffice import big_table as shared
from messages_app.models import Message
from search import outbox
from tests.backoffice.conftest import Browser, listed, told
from tests.support.harness import Tenant, drain_all

APPLICATIONS, CHATS, MESSAGES = "applications/application/", "chats/chat/", "messages_app/message/"


@pytest.fixture
def stored(ours: Tenant, theirs: Tenant, drained: object) -> Tenant:
    """Ours has the chats "alpha" with three messages and "beta" with one; theirs has one of each."""
    ours.chat("alpha")
    ours.chat("beta")
    ours.batch(1, ["hello there", "<script>alert(1)</script>", "third\nline two"])
    ours.message(2, "Élan vital")
    drained()
    return ours


def test_every_list_shows_every_row(stored: Tenant, browser: Browser) -> None:
    assert listed(browser.page(APPLICATIONS)) == 2
    assert listed(browser.page(CHATS)) == 3
    # Without an action there is no checkbox.
    assert browser.page(MESSAGES).count('<th class="field-short_body">') == 5
    assert browser.page("writelog/partition/").count('<td class="field-waiting">0</td>') == 64
    assert "0 dead events" in browser.page("writelog/deadevent/")


def test_bodies_titles_and_names_are_never_markup(ours: Tenant, browser: Browser, drained: object) -> None:
    evil = "<script>alert(1)</script>"
    ours.api.patch(ours.path, {"name": evil}, format="json")
    ours.chat(evil)
    ours.message(1, evil)
    drained()

    for path, row in [(APPLICATIONS, Application), (CHATS, Chat), (MESSAGES, Message)]:
        for page in (browser.page(path), browser.page(f"{path}{row.objects.get().pk}/change/")):
            assert "<script>alert(1)" not in page
            assert "&lt;script&gt;alert(1)" in page
    saved = browser.save(f"{CHATS}{Chat.objects.get().pk}/change/", title=evil + "!")
    assert "<script>alert(1)" not in saved


def test_a_list_shortens_a_body_and_the_form_shows_all_of_it(ours: Tenant, browser: Browser, drained: object) -> None:
    ours.chat()
    ours.message(1, "word " * 3_000)
    drained()

    assert "word " * 17 not in browser.page(MESSAGES)
    assert browser.form(f"{MESSAGES}{Message.objects.get().pk}/change/")["body"] == "word " * 3_000


def messages_found(browser: Browser, **params: object) -> int:
    return browser.page(MESSAGES, **params).count('<th class="field-short_body">')


def test_a_path_finds_what_it_names_and_nothing_of_others(stored: Tenant, browser: Browser) -> None:
    token = stored.token
    assert listed(browser.page(APPLICATIONS, q=token)) == 1
    assert listed(browser.page(APPLICATIONS, q=f"http://localhost:8000/applications/{token}/chats/1")) == 1
    assert listed(browser.page(CHATS, q=token)) == 2
    assert listed(browser.page(CHATS, q=f"{token}/2")) == 1
    assert listed(browser.page(CHATS, q=f"/applications/{token}/chats/3")) == 0
    assert messages_found(browser, q=token) == 4
    assert messages_found(browser, q=f" {token}/1 ") == 3
    assert messages_found(browser, q=f"{token}/1/2") == 1
    assert messages_found(browser, q=f"{token}/chats/1/messages/9") == 0
    assert messages_found(browser, q="0" * 32) == 0
    assert messages_found(browser, q=f"{token}/9999999999999999999") == 0


def test_first_letters_find_names_and_titles(stored: Tenant, browser: Browser) -> None:
    assert listed(browser.page(APPLICATIONS, q="ou")) == 1
    assert listed(browser.page(CHATS, q="al")) == 1
    assert listed(browser.page(CHATS, q="lpha")) == 0
    assert listed(browser.page(CHATS, q="a%")) == 0


def test_words_find_messages_through_the_search(
    stored: Tenant, browser: Browser, settings: Any, tmp_path: Path
) -> None:
    settings.SEARCH_INDEX_PATH = tmp_path / "search.sqlite3"
    outbox.index()
    assert messages_found(browser, q="elan") == 1
    assert messages_found(browser, q="hello zebra") == 0
    assert messages_found(browser, q='") OR *') == 0


def test_age_filters_find_the_rows_of_the_last_hour_day_and_week(stored: Tenant, browser: Browser) -> None:
    # Two of the five messages are old: two hours and three days.
    ids = list(Message.objects.order_by("pk").values_list("pk", flat=True))
    Message.objects.filter(pk=ids[0]).update(created_at=timezone.now() - timedelta(days=3))
    Message.objects.filter(pk=ids[1]).update(created_at=timezone.now() - timedelta(hours=2))

    assert messages_found(browser, created="hour") == 3
    assert messages_found(browser, created="day") == 4
    assert messages_found(browser, created="week") == 5
    assert messages_found(browser, created="nonsense") == 5
    assert messages_found(browser, created="hour", q=f"{stored.token}/1") >= 1


def test_an_age_filter_finds_rows_beside_one_that_was_stored_late(stored: Tenant, browser: Browser) -> None:
    # Given a row older than an hour between two newer ones, because their drains overlapped,
    chat = Chat.objects.first()
    Message.objects.all().delete()
    for pk, seconds in ((1, 3_400), (2, 3_605), (3, 3_400)):
        moment = timezone.now() - timedelta(seconds=seconds)
        Message.objects.create(pk=pk, chat=chat, number=pk, body="x", created_at=moment, last_request_time=moment)

    # when the list is filtered to the last hour, then the older row hides neither of them.
    assert messages_found(browser, created="hour") == 2


def test_the_bisection_finds_the_first_row_across_gaps(stored: Tenant) -> None:
    chat = Chat.objects.first()
    start = timezone.now()
    Message.objects.all().delete()
    ages = {pk: start + timedelta(seconds=pk) for pk in (3, 4, 90, 91, 700, 20_000)}
    Message.objects.bulk_create(
        Message(pk=pk, chat=chat, number=pk, body="x", created_at=moment, last_request_time=moment)
        for pk, moment in ages.items()
    )
    for pk in ages:
        with CaptureQueriesContext(connection) as queries:
            first = shared.first_since(Message, start + timedelta(seconds=pk))
        assert Message.objects.filter(pk__gte=first).order_by("pk").first().pk == pk
        assert len(queries) < 20
    assert not Message.objects.filter(pk__gte=shared.first_since(Message, start + timedelta(days=9))).exists()


def test_a_list_counts_no_further_than_it_pages(
    stored: Tenant, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared, "LISTED", 4)
    with CaptureQueriesContext(connection) as queries:
        page = browser.page(MESSAGES)

    assert "4 messages" in page
    assert "The list ends here, but there are more." in page
    counts = [query["sql"] for query in queries if "COUNT(" in query["sql"]]
    assert counts
    assert all("LIMIT 5" in sql for sql in counts)


def test_a_token_that_names_more_than_a_list_holds_says_so(
    stored: Tenant, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert told(browser.page(MESSAGES, q=stored.token)) == ""
    # The newest chat, "beta", has one message.
    monkeypatch.setattr("messages_app.admin.LISTED", 0)
    page = browser.page(MESSAGES, q=stored.token)

    assert "Only messages of the application's newest chats are listed" in told(page)
    assert page.count('<th class="field-short_body">') == 1


def test_no_page_selects_all_parents(stored: Tenant, browser: Browser) -> None:
    message = Message.objects.first()
    for path in (MESSAGES, CHATS, f"{MESSAGES}{message.pk}/change/", f"{CHATS}{message.chat_id}/change/"):
        with CaptureQueriesContext(connection) as queries:
            browser.page(path)
        # The count bounds the rows of the page.
        rows = "messages_app_message" if path.startswith(MESSAGES) else "chats_chat"
        for query in queries:
            if 'FROM "applications_' in query["sql"] or 'FROM "chats_' in query["sql"]:
                assert f'FROM "{rows}"' in query["sql"] or " WHERE " in query["sql"], query["sql"]


def test_a_lookup_put_into_the_url_is_refused(stored: Tenant, browser: Browser) -> None:
    assert browser.client.get(f"/admin/{MESSAGES}", {"body__contains": "x"}).status_code == 400


def test_recounting_tells_the_drift_and_repairs_it(stored: Tenant, browser: Browser) -> None:
    alpha = Chat.objects.get(title="alpha")
    assert told(browser.act(CHATS, "recount", [alpha])) == "Recounted 1 chat: no drift."

    Chat.objects.filter(pk=alpha.pk).update(messages_count=9)
    Application.objects.filter(token=stored.token).update(chats_count=0)
    page = browser.act(CHATS, "recount", list(Chat.objects.all()))
    assert told(page) == f"Recounted 3 chats: 1 drifted and repaired (id {alpha.pk} had 9, has 3)."
    page = browser.act(APPLICATIONS, "recount", list(Application.objects.all()))
    assert "Recounted 2 applications: 1 drifted and repaired" in told(page)

    assert Chat.objects.get(pk=alpha.pk).messages_count == 3
    assert Application.objects.get(token=stored.token).chats_count == 2


def test_recounting_tells_the_first_ten_drifts_one_by_one_and_counts_all(ours: Tenant, browser: Browser) -> None:
    for _ in range(11):
        ours.chat()
    drain_all()
    Chat.objects.update(messages_count=9)

    words = told(browser.act(CHATS, "recount", list(Chat.objects.all())))

    assert words.startswith("Recounted 11 chats: 11 drifted and repaired (id ")
    assert words.endswith("; …).")
    assert words.count(" had 9, has 0;") == 10


def test_an_action_takes_on_no_more_than_it_says(
    stored: Tenant, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared, "ACTED_ON", 2)
    page = browser.act(CHATS, "recount", list(Chat.objects.all()), select_across="1")

    assert told(page) == "Recounted 2 chats: no drift. Only the first 2 of the selected ones were processed."


def test_actions_are_for_those_who_may_change(stored: Tenant, viewer: Browser) -> None:
    Chat.objects.update(messages_count=9)
    assert "recount" not in viewer.page(CHATS)
    viewer.act(CHATS, "recount", list(Chat.objects.all()))

    assert set(Chat.objects.values_list("messages_count", flat=True)) == {9}


def test_partitions_tell_what_waits(stored: Tenant, browser: Browser, redis_server: object) -> None:
    stored.message(1)
    assert '<td class="field-waiting">1</td>' in browser.page("writelog/partition/")

    redis_server.kill()
    try:
        page = browser.page("writelog/partition/")
    finally:
        redis_server.start()
    assert "the number of waiting events is unknown" in told(page)
