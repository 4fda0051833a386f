"""Dead events: people replay or discard acknowledged writes that the database refused."""

from __future__ import annotations

import pytest
from django.utils import timezone

from applications.models import Application
from chats.models import Chat
from chats.services import update_chat
from chatsystem.writelog import dead_events, stream
from chatsystem.writelog.keys import Keys, partition_of
from chatsystem.writelog.models import DeadEvent, DiscardedEvent
from chatsystem.writelog.redis_client import client
from messages_app.models import Message
from tests.backoffice.conftest import Browser, listed, told
from tests.support.harness import RealRedis, Tenant

EVENTS = "writelog/deadevent/"
DISCARDED = "writelog/discardedevent/"
REASON = "The sender has withdrawn it."


def pending(tenant: Tenant) -> dict[str, str]:
    return client(0).hgetall(Keys(partition_of(tenant.token)).pending)


@pytest.fixture
def dying(ours: Tenant, drained: object) -> Tenant:
    """A chat, its two messages and a change of the second died, because their application was not stored.

    The application is back by now.
    """
    drained()
    row = Application.objects.get()
    Application.objects.all().delete()
    ours.chat("a chat")
    ours.batch(1, ["one", "two"])
    ours.api.patch(f"{ours.path}/chats/1/messages/2", {"body": "two, changed"}, format="json")
    drained()
    assert DeadEvent.objects.count() == 4
    assert not stream.lengths()
    row.save(force_insert=True)
    return ours


def bodies(tenant: Tenant) -> list[str]:
    return [message["body"] for message in tenant.get("/chats/1/messages")["results"]]


def test_the_dead_are_shown_by_reads_and_listed_for_people(dying: Tenant, browser: Browser) -> None:
    assert bodies(dying) == ["one", "two, changed"]

    page = browser.page(EVENTS, q=f"{dying.token}/1/2")
    assert "4 dead events" in browser.page(EVENTS)
    assert "2 dead events" in page
    assert "two, changed" in page
    event = DeadEvent.objects.first()
    form = browser.page(f"{EVENTS}{event.pk}/change/")
    assert event.error in form
    assert 'value="Save"' not in form


def test_a_path_finds_what_is_under_it_and_no_number_that_begins_alike(ours: Tenant, browser: Browser) -> None:
    partition = partition_of(ours.token)
    for arrival, path in enumerate(("1", "1/2", "12", "12/1"), start=1):
        DeadEvent.objects.create(
            partition_id=partition, arrival=arrival, verb="create", path=f"{ours.token}/{path}", text="x", error="x"
        )

    assert "2 dead events" in browser.page(EVENTS, q=f"{ours.token}/1")
    assert "4 dead events" in browser.page(EVENTS, q=ours.token)


def test_replaying_all_stores_them_oldest_first(dying: Tenant, browser: Browser) -> None:
    newest_first = list(DeadEvent.objects.order_by("-arrival"))
    page = browser.act(EVENTS, "replay_selected", newest_first)

    assert told(page) == "4 of 4 dead events stored."
    assert list(Message.objects.order_by("number").values_list("body", flat=True)) == ["one", "two, changed"]
    assert bodies(dying) == ["one", "two, changed"]
    assert Chat.objects.get().messages_count == 2
    assert Application.objects.get().chats_count == 1
    assert not DeadEvent.objects.exists()
    assert pending(dying) == {}


def test_an_event_that_is_refused_again_stays_with_its_new_error(dying: Tenant, browser: Browser) -> None:
    change = DeadEvent.objects.get(verb="update")
    DeadEvent.objects.update(error="an old error")

    page = browser.act(EVENTS, "replay_selected", [change])

    assert told(page) == "0 of 1 dead event stored. Refused again: 1. The error column says why."
    change.refresh_from_db()
    assert change.error == "PoisonEvent: its parent is not stored"
    assert bodies(dying) == ["one", "two, changed"]


def test_a_replay_leaves_the_log_and_newer_pending_texts_alone(dying: Tenant) -> None:
    for event in DeadEvent.objects.order_by("arrival"):
        dying.api.patch(f"{dying.path}/chats/1/messages/1", {"body": f"newer {event.pk}"}, format="json")
        assert dead_events.replay(event)

    assert sum(stream.lengths().values()) == 4
    assert bodies(dying)[0].startswith("newer")


def test_an_event_is_replayed_once_by_whoever_comes_first(dying: Tenant) -> None:
    chat, twin = (DeadEvent.objects.get(path=f"{dying.token}/1") for _ in range(2))
    assert dead_events.replay(chat)
    with pytest.raises(DeadEvent.DoesNotExist):
        dead_events.replay(twin)
    with pytest.raises(DeadEvent.DoesNotExist):
        dead_events.discard(twin, "somebody", REASON)

    assert Application.objects.get().chats_count == 1


def test_discarding_asks_first(dying: Tenant, browser: Browser) -> None:
    page = browser.act(EVENTS, "discard_selected", list(DeadEvent.objects.all()))

    assert "Discard 4 acknowledged writes?" in page
    assert DeadEvent.objects.count() == 4
    assert bodies(dying) == ["one", "two, changed"]


def test_nothing_is_discarded_without_a_reason(dying: Tenant, browser: Browser) -> None:
    page = browser.act(EVENTS, "discard_selected", list(DeadEvent.objects.all()), confirmed="yes", reason="  ")

    assert "Give a reason." in page
    assert DeadEvent.objects.count() == 4
    assert not DiscardedEvent.objects.exists()


def test_what_was_discarded_is_on_record_with_who_did_it_when_and_why(dying: Tenant, browser: Browser) -> None:
    # Given a dead change,
    change = DeadEvent.objects.get(verb="update")

    # when it is discarded,
    began = timezone.now()
    browser.act(EVENTS, "discard_selected", [change], confirmed="yes", reason=REASON)

    # then the record keeps all of it,
    record = DiscardedEvent.objects.get()
    for field in ("partition_id", "arrival", "verb", "path", "text", "error", "died_at"):
        assert getattr(record, field) == getattr(change, field)
    assert (record.discarded_by, record.reason) == ("admin", REASON)
    assert began <= record.discarded_at <= timezone.now()
    # and it is listed, read-only.
    page = browser.page(DISCARDED, q=f"{dying.token}/1/2")
    assert (listed(page), REASON in page, "two, changed" in page) == (0, True, True)
    form = browser.page(f"{DISCARDED}{record.pk}/change/")
    assert REASON in form
    assert 'value="Save"' not in form


def test_what_cannot_be_discarded_leaves_no_record(dying: Tenant, browser: Browser, redis_server: RealRedis) -> None:
    redis_server.kill()
    try:
        browser.act(EVENTS, "discard_selected", list(DeadEvent.objects.all()), confirmed="yes", reason=REASON)
    finally:
        redis_server.start()

    assert not DiscardedEvent.objects.exists()


def test_a_discarded_change_gives_way_to_the_text_before_it(dying: Tenant, browser: Browser) -> None:
    page = browser.act(
        EVENTS, "discard_selected", [DeadEvent.objects.get(verb="update")], confirmed="yes", reason=REASON
    )

    assert told(page) == "1 of 1 dead event discarded."
    assert bodies(dying) == ["one", "two"]


def test_a_discarded_change_gives_way_to_the_newest_of_those_that_are_left(
    dying: Tenant, browser: Browser, drained: object
) -> None:
    # Given a dead message with two dead changes,
    row = Application.objects.get()
    Application.objects.all().delete()
    before = dying.get("/chats/1/messages/2")
    dying.api.patch(f"{dying.path}/chats/1/messages/2", {"body": "two, changed again"}, format="json")
    drained()
    row.save(force_insert=True)
    assert bodies(dying) == ["one", "two, changed again"]

    # when the later one is discarded, then the earlier one is read, as it was acknowledged.
    browser.act(EVENTS, "discard_selected", [DeadEvent.objects.latest("arrival")], confirmed="yes", reason=REASON)
    assert dying.get("/chats/1/messages/2") == before


def test_a_discarded_chat_is_gone_with_what_depends_on_it(dying: Tenant, browser: Browser, drained: object) -> None:
    browser.act(EVENTS, "discard_selected", list(DeadEvent.objects.all()), confirmed="yes", reason=REASON)

    assert not DeadEvent.objects.exists()
    # An event goes before the one that it depends on. An interruption leaves no message without its chat.
    arrivals = list(DiscardedEvent.objects.order_by("pk").values_list("arrival", flat=True))
    assert arrivals == sorted(arrivals, reverse=True)
    assert pending(dying) == {}
    assert dying.api.get(f"{dying.path}/chats/1").status_code == 404
    assert dying.api.post(f"{dying.path}/chats/1/messages", {"body": "late"}, format="json").status_code == 404
    assert dying.chat("the next one")["number"] == 2
    drained()
    assert not DeadEvent.objects.exists()


def test_discarding_does_not_hide_an_update_that_is_still_in_the_log(
    ours: Tenant, browser: Browser, drained: object
) -> None:
    ours.chat("stored")
    drained()
    row = Chat.objects.get()
    Chat.objects.all().delete()
    update_chat(ours.token, 1, "dead")
    drained()
    row.save(force_insert=True)
    ours.api.patch(f"{ours.path}/chats/1", {"title": "newer"}, format="json")

    browser.act(EVENTS, "discard_selected", [DeadEvent.objects.get()], confirmed="yes", reason=REASON)

    assert ours.get("/chats/1")["title"] == "newer"


def test_with_redis_away_nothing_is_discarded(dying: Tenant, browser: Browser, redis_server: RealRedis) -> None:
    events = list(DeadEvent.objects.all())
    redis_server.kill()
    try:
        page = browser.act(EVENTS, "discard_selected", events, confirmed="yes", reason=REASON)
    finally:
        redis_server.start()

    assert "0 of 4 dead events discarded." in told(page)
    assert "the state Redis is down" in told(page)
    assert DeadEvent.objects.count() == 4


def test_a_viewer_neither_replays_nor_discards(dying: Tenant, viewer: Browser) -> None:
    viewer.act(EVENTS, "replay_selected", list(DeadEvent.objects.all()))
    viewer.act(EVENTS, "discard_selected", list(DeadEvent.objects.all()), confirmed="yes", reason=REASON)

    assert DeadEvent.objects.count() == 4


def test_the_text_of_a_dead_event_is_never_markup(dying: Tenant, browser: Browser) -> None:
    DeadEvent.objects.update(text="<script>alert(1)</script>", error="<script>alert(2)</script>")
    event = DeadEvent.objects.first()
    for page in [
        browser.page(EVENTS),
        browser.page(f"{EVENTS}{event.pk}/change/"),
        browser.act(EVENTS, "discard_selected", [event]),
    ]:
        assert "<script>alert(" not in page
        assert "&lt;script&gt;alert(1)" in page
