"""The operations page: permissions, the snapshot, and the jobs."""

from __future__ import annotations

import html
import re
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from celery import current_app
from django.contrib.auth.models import Permission, User
from django.core.cache import cache
from django.test import Client
from kombu.exceptions import OperationalError

from applications.models import Application
from chats.models import Chat
from chatsystem.backoffice import job_runs, tasks
from chatsystem.writelog import redis_guards, rollback_guard, stats, stream
from chatsystem.writelog.counts import reconcile_due
from chatsystem.writelog.keys import partition_of
from chatsystem.writelog.models import DeadEvent
from chatsystem.writelog.tasks import sample
from messages_app.models import Message
from search import outbox
from search.backends import get_backend
from tests.backoffice.conftest import Browser, told
from tests.support.harness import RealRedis, Tenant, drain_all, in_threads
from tests.support.product import eventually

PAGE = "operations/"
JOBS = ["drain", "replay", "recount", "reindex"]
#: Jobs that need a confirmation.
ASKED = ["replay", "reindex"]


@pytest.fixture(autouse=True)
def index_of_its_own(settings: Any, tmp_path: Path) -> None:
    settings.SEARCH_INDEX_PATH = tmp_path / "search.sqlite3"


def snapshot(browser: Browser) -> dict[str, Any]:
    response = browser.client.get("/admin/operations/snapshot")
    assert response.status_code == 200
    return response.json()


def press(browser: Browser, job: str) -> str:
    """Starts the job, and returns the message that the user sees."""
    return told(browser.post(f"{PAGE}{job}", {"confirmed": "yes"}))


def forget_rows_of(tenant: Tenant) -> None:
    Message.objects.filter(chat__application__token=tenant.token).delete()
    Chat.objects.filter(application__token=tenant.token).delete()
    Application.objects.filter(token=tenant.token).delete()


def queued(name: str = "backoffice.run_job") -> int:
    """Returns how many messages of the task wait for a worker."""
    with current_app.connection_for_read() as connection:
        waiting = connection.default_channel.client.lrange("background", 0, -1)
    return sum(f'"task": "{name}"' in message.decode() for message in waiting)


def work(job: str) -> None:
    """Runs the job as a worker would."""
    tasks.run_job(job, cache.get(f"job:{job}:run").id)


def outcome(browser: Browser, job: str) -> tuple[str, str]:
    run = snapshot(browser)["jobs"][job]
    return run["status"], run["outcome"]


# Permissions ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("who", ["anonymous", "not staff"])
def test_nobody_but_staff_sees_or_starts_anything(api: object, who: str) -> None:
    client = Client()
    if who == "not staff":
        client.force_login(User.objects.create_user("somebody"))

    assert client.get("/admin/operations/snapshot").status_code == 403
    for response in (client.get("/admin/operations/"), client.post("/admin/operations/drain")):
        assert response.status_code == 302
        assert response["Location"].startswith("/admin/login/")
    assert queued() == 0


@pytest.mark.parametrize("job", JOBS)
def test_who_may_only_look_sees_the_figures_and_starts_nothing(viewer: Browser, job: str) -> None:
    page = viewer.page(PAGE)

    assert page.count("You do not have permission for this.") == len(JOBS)
    assert snapshot(viewer)["log"]["waiting"] == {}
    assert viewer.client.post(f"/admin/{PAGE}{job}", {"confirmed": "yes"}).status_code == 403
    assert queued() == 0


@pytest.mark.parametrize(
    ("job", "permissions"),
    [
        ("drain", ["change_partition"]),
        ("replay", ["change_deadevent"]),
        ("recount", ["change_application", "change_chat"]),
        ("reindex", ["change_outboxentry"]),
    ],
)
def test_each_button_needs_all_of_its_own_permissions_and_no_other(
    viewer: Browser, job: str, permissions: list[str]
) -> None:
    user = User.objects.get()
    for codename in permissions:
        assert viewer.client.post(f"/admin/{PAGE}{job}", {"confirmed": "yes"}).status_code == 403
        user.user_permissions.add(Permission.objects.get(codename=codename))

    assert "queued" in press(viewer, job)


def test_a_post_from_another_site_is_refused(browser: Browser) -> None:
    browser.client.handler.enforce_csrf_checks = True

    assert browser.client.post(f"/admin/{PAGE}drain").status_code == 403
    assert queued() == 0


def test_it_is_linked_from_the_admins_first_page_and_has_no_script_or_style_within(browser: Browser) -> None:
    assert 'href="/admin/operations/"' in browser.page("")
    page = browser.page(PAGE)
    assert page.count("<script") == page.count("<script src=") + page.count('<script type="module" src=')
    assert "<style" not in page
    assert " style=" not in page
    assert " onclick=" not in page


def test_an_unknown_job_is_a_404_and_a_get_leads_to_the_page(browser: Browser) -> None:
    assert browser.client.post(f"/admin/{PAGE}nothing").status_code == 404
    assert browser.client.get(f"/admin/{PAGE}drain")["Location"] == "/admin/operations/"
    assert queued() == 0


# The snapshot --------------------------------------------------------------------------------------------------------


def test_the_snapshot_tells_what_waits_where(ours: Tenant, theirs: Tenant, browser: Browser) -> None:
    # Given four stored events, and three waiting ones, of which one will die,
    drain_all()
    forget_rows_of(theirs)
    ours.chat()
    ours.message(1)
    theirs.chat("its application is not stored")
    waiting = Counter(str(partition_of(token)) for token in (ours.token, ours.token, theirs.token))
    before = snapshot(browser)
    drain_all()
    after = snapshot(browser)

    # then each figure is correct,
    assert before["log"]["waiting"] == waiting
    assert before["log"]["seconds"] > 0
    assert before["log"]["halted"] == before["log"]["superseded"] == []
    assert before["log"]["workers"] is False
    assert before["log"]["totals"][:2] == [7, 4]
    assert before["database"]["dead"] == 0
    assert after["log"]["waiting"] == {}
    assert after["log"]["totals"][:2] == [7, 7]
    assert after["database"]["dead"] == 1
    assert after["database"]["outbox_entries"] == 2
    assert after["database"]["outbox_seconds"] > 0
    assert after["index"] == {"name": "search.sqlite3", "documents": 0, "complete": False, "building": None}
    # and no data of any tenant is included.
    assert ours.token not in str(after)
    assert set(after) == {"log", "live", "database", "index", "reconcile", "history", "jobs"}


def test_halted_and_superseded_partitions_and_a_worker_at_work_are_told(ours: Tenant, browser: Browser) -> None:
    rollback_guard.halt(5)
    redis_guards.supersede([5, 63])
    stats.beat_heart()

    found = snapshot(browser)["log"]

    assert found["halted"] == [5]
    assert found["superseded"] == [5, 63]
    assert found["workers"] is True


def test_the_page_says_superseded_in_the_words_of_readiness(ours: Tenant, browser: Browser) -> None:
    redis_guards.supersede([5, 63])

    told = ours.api.get("/health/ready").json()["dependencies"]["state"]

    words = re.search('data-superseded="(.+?)"', browser.page(PAGE))
    assert words is not None
    assert told == f"degraded: {words[1]} for 2 of 64 partitions"


def test_the_index_is_asked_again_after_a_while(ours: Tenant, browser: Browser) -> None:
    ours.chat()
    ours.batch(1, ["one", "two"])
    drain_all()
    assert snapshot(browser)["index"]["documents"] == 0
    outbox.index()

    assert snapshot(browser)["index"]["documents"] == 0, "not for each look of each person"
    assert 0 < cache.ttl("backoffice:index") <= 10
    cache.delete("backoffice:index")
    assert snapshot(browser)["index"] == {
        "name": "search.sqlite3",
        "documents": 2,
        "complete": True,
        "building": None,
    }


def test_the_last_reconcile_is_told_and_a_drift_is_remembered(ours: Tenant, browser: Browser) -> None:
    assert snapshot(browser)["reconcile"] is None
    ours.chat()
    drain_all()
    Application.objects.update(chats_count=7)

    reconcile_due()
    assert snapshot(browser)["reconcile"]["drifts"] == 1
    assert 0 <= snapshot(browser)["reconcile"]["seconds"] < 60

    reconcile_due()
    found = snapshot(browser)["reconcile"]
    assert found["drifts"] == 1
    assert found["drift_seconds"] > found["seconds"] > 0


def test_what_is_away_is_none_and_the_others_are_told(ours: Tenant, browser: Browser, redis_server: RealRedis) -> None:
    redis_server.kill()
    try:
        found = snapshot(browser)
        pressed = press(browser, "drain")
    finally:
        redis_server.start()

    assert found["log"] is found["jobs"] is found["reconcile"] is None
    assert found["history"] == []
    assert found["database"]["dead"] == 0
    assert found["index"]["documents"] == 0
    assert pressed == "Drain the log: nothing was started, because the cache or the broker is down."


def test_the_history_has_the_totals_of_the_last_minutes_and_none_older(ours: Tenant, browser: Browser) -> None:
    sample()
    ours.chat()
    sample()
    drain_all()
    sample()

    found = snapshot(browser)["history"]
    assert [each[:2] for each in found] == [[1, 0], [2, 0], [2, 2]]
    assert found == sorted(found, key=lambda each: each[2])

    newest = stats.samples()[-1]
    stats.add_sample(stats.Sample(3, 3, newest.at + stats.SPAN - 0.001))
    assert [sample[0] for sample in snapshot(browser)["history"]] == [2, 3]


# Jobs ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("job", JOBS)
def test_a_button_that_warns_starts_nothing_before_it_is_confirmed(browser: Browser, job: str) -> None:
    page = browser.post(f"{PAGE}{job}", {})

    if job in ASKED:
        assert job_runs.job_named(job).warning in html.unescape(page)
        assert queued() == 0
    else:
        assert "queued" in told(page)
        assert queued() == 1


def test_drain_stores_what_the_log_holds(ours: Tenant, browser: Browser) -> None:
    ours.chat()
    ours.batch(1, ["a message"] * 5)
    press(browser, "drain")
    assert outcome(browser, "drain") == ("waiting", "")

    work("drain")

    assert outcome(browser, "drain") == ("done", "7 events stored; the log is empty.")
    assert Message.objects.count() == 5
    run = snapshot(browser)["jobs"]["drain"]
    assert run["by"] == "admin"
    assert run["done"] == run["total"] == 7


def test_recount_repairs_what_differs(ours: Tenant, browser: Browser) -> None:
    ours.chat()
    ours.message(1)
    drain_all()
    Chat.objects.update(messages_count=8)
    press(browser, "recount")

    work("recount")

    assert outcome(browser, "recount") == ("done", "2 applications and chats counted: 1 had drifted and were repaired.")
    assert Chat.objects.get().messages_count == 1


def test_replay_stores_the_dead_oldest_first_and_tells_which_were_refused_again(
    ours: Tenant, theirs: Tenant, browser: Browser
) -> None:
    # Given dead events of two applications, of which one is stored by now,
    drain_all()
    row = Application.objects.get(token=ours.token)
    forget_rows_of(ours)
    forget_rows_of(theirs)
    ours.chat()
    ours.message(1, "back")
    theirs.chat()
    drain_all()
    assert DeadEvent.objects.count() == 3
    row.save(force_insert=True)
    press(browser, "replay")

    work("replay")

    status, words = outcome(browser, "replay")
    assert status == "done"
    assert words.startswith("Of 3 dead events: ")
    assert "2 stored" in words
    assert "1 refused again" in words
    assert list(Message.objects.values_list("body", flat=True)) == ["back"]
    assert DeadEvent.objects.count() == 1


def test_reindex_fills_the_index(ours: Tenant, browser: Browser) -> None:
    ours.chat()
    ours.batch(1, ["one", "two", "three"])
    drain_all()
    press(browser, "reindex")

    work("reindex")

    assert outcome(browser, "reindex") == ("done", "3 messages are in the index.")
    assert get_backend().state().documents == 3


def test_a_job_that_fails_says_why_and_can_be_started_again(browser: Browser, settings: Any, tmp_path: Path) -> None:
    settings.SEARCH_INDEX_PATH = tmp_path
    press(browser, "reindex")

    work("reindex")

    status, words = outcome(browser, "reindex")
    assert status == "failed"
    assert words.startswith("SearchUnavailable: ")
    settings.SEARCH_INDEX_PATH = tmp_path / "search.sqlite3"
    assert "queued" in press(browser, "reindex")
    work("reindex")
    assert outcome(browser, "reindex")[0] == "done"


# One at a time -------------------------------------------------------------------------------------------------------


def test_of_two_presses_one_starts(browser: Browser) -> None:
    assert press(browser, "drain") == "Drain the log: queued. Its row below shows the progress."
    assert press(browser, "drain") == "Drain the log: already running. Nothing was started."
    assert queued() == 1
    assert "queued" in press(browser, "recount"), "another job is another matter"
    work("drain")
    assert "queued" in press(browser, "drain")


def test_what_the_broker_did_not_take_can_be_started_at_once_when_it_is_back(
    browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*args: object) -> None:
        raise OperationalError("away")

    with monkeypatch.context() as patched:
        patched.setattr(tasks.run_job, "delay", away)
        assert press(browser, "drain") == "Drain the log: nothing was started, because the cache or the broker is down."

    assert "queued" in press(browser, "drain")


def test_of_many_presses_at_once_one_starts(browser: Browser) -> None:
    sessions = [Browser(User.objects.get()) for _ in range(8)]
    answers: list[str] = []

    in_threads(lambda client: answers.append(press(sessions[client], "drain")), range(len(sessions)))

    assert sum("queued" in answer for answer in answers) == 1
    assert sum("already running" in answer for answer in answers) == 7
    assert queued() == 1


def test_a_message_that_comes_again_afterwards_does_nothing(ours: Tenant, browser: Browser) -> None:
    press(browser, "drain")
    work("drain")
    ours.chat()

    work("drain")

    assert outcome(browser, "drain")[1] == "1 events stored; the log is empty."
    assert stream.lengths()


def test_progress_is_told_while_it_goes_on(ours: Tenant, browser: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    ours.chat()
    ours.batch(1, ["a message"] * 3)
    drain_all()
    told_meanwhile, go_on = threading.Event(), threading.Event()
    record = job_runs.RecordedProgress.record

    def record_and_wait(progress: job_runs.RecordedProgress) -> None:
        record(progress)
        if progress.done:
            told_meanwhile.set()
            go_on.wait(60)

    monkeypatch.setattr(job_runs.RecordedProgress, "record", record_and_wait)
    press(browser, "reindex")
    worker = threading.Thread(target=in_threads, args=(lambda _: work("reindex"), range(1)))
    worker.start()
    try:
        assert told_meanwhile.wait(60)
        run = snapshot(browser)["jobs"]["reindex"]
        assert (run["status"], run["done"], run["total"]) == ("running", 3, 3)
        assert "already running" in press(browser, "reindex")
        # A message that is delivered twice does not start the job again.
        work("reindex")
        assert outcome(browser, "reindex")[0] == "running"
    finally:
        go_on.set()
        worker.join()
    assert outcome(browser, "reindex")[0] == "done"


def test_a_run_that_was_not_heard_of_for_long_is_told_as_lost_and_its_late_message_does_nothing(
    ours: Tenant, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_runs, "LEASE", 1)
    press(browser, "drain")
    late = cache.get("job:drain:run").id
    eventually(lambda: outcome(browser, "drain")[0] == "lost")

    tasks.run_job("drain", late)

    assert outcome(browser, "drain")[0] == "lost"
    assert stream.lengths()
    monkeypatch.undo()
    assert "queued" in press(browser, "drain")
    tasks.run_job("drain", late)
    assert outcome(browser, "drain")[0] == "waiting"
