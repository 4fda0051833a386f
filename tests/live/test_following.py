"""Everything after a position: from the feed and the log, complete, in order and once, or a reset."""

from __future__ import annotations

from io import StringIO
from typing import Any

import pytest
from django.core.management import call_command

from chatsystem.writelog import dead_events, exceptions, feed, redis_guards, tasks, terms
from chatsystem.writelog.keys import PARTITIONS, Keys, partition_of
from chatsystem.writelog.models import DeadEvent, FeedRow, FormerTerm, Partition
from chatsystem.writelog.positions import Position
from chatsystem.writelog.tail import tails
from messages_app.models import Message
from tests.live.following import RESET, Follower, position_of
from tests.support.harness import RealRedis, Tenant, drain_all, dump, put_back


def patch(tenant: Tenant, chat: int, number: int, body: str) -> None:
    path = f"{tenant.path}/chats/{chat}/messages/{number}"
    assert tenant.api.patch(path, {"body": body}, format="json").status_code == 200


def as_listed(tenant: Tenant, chat: int) -> list[dict[str, Any]]:
    """The messages of a chat as a stream shows them."""
    return [{"chat_number": chat, **one} for one in tenant.get(f"/chats/{chat}/messages", limit=1000)["results"]]


def seen(events: list[dict[str, Any] | str]) -> list[Any]:
    """The texts of events."""
    return [one if isinstance(one, str) else one.get("body", one.get("title")) for one in events]


@pytest.fixture
def following(ours: Tenant, theirs: Tenant) -> Follower:
    """A reader of `ours`, which has a stored chat with two messages that the reader has seen."""
    follower = Follower.of(ours)
    ours.chat("a chat")
    ours.batch(1, ["one", "two"])
    assert seen(follower.follow()) == ["a chat", "one", "two"]
    drain_all()
    return follower


def test_a_reader_sees_creates_and_edits_in_order_of_arrival_and_nothing_of_others(
    ours: Tenant, theirs: Tenant, following: Follower
) -> None:
    # Given a chat that is renamed, an edited message and new ones, and another tenant that does the same,
    for tenant in (ours, theirs):
        tenant.message(1, "three")
        patch(tenant, 1, 1, "one, changed")
        tenant.chat("another")
        tenant.api.patch(f"{tenant.path}/chats/1", {"title": "renamed"}, format="json")
        tenant.message(2, "in the other")

    # when the reader goes on, then it sees its own, as the API shows them.
    expected = ["three", "one, changed", "another", "renamed", "in the other"]
    assert seen(following.follow()) == expected
    assert [following.shown[1, n] for n in (1, 2, 3)] == as_listed(ours, 1)
    assert following.shown[2, 1] == as_listed(ours, 2)[0]
    chat = ours.get("/chats/1")
    assert following.shown[1, None] == {name: chat[name] for name in chat if name != "messages_count"}
    assert following.arrivals == sorted(set(following.arrivals))
    # And nothing of that comes again, drained or not.
    drain_all()
    assert following.follow() == []


@pytest.mark.parametrize("drains", [(), (1,), (3,), (1, 2, 3, 4)])
def test_a_reader_that_was_away_gets_the_newest_versions_once_wherever_they_are_by_now(
    ours: Tenant, following: Follower, drains: tuple[int, ...]
) -> None:
    # Given writes, of which some are stored and some still in the log,
    for step in range(1, 5):
        ours.message(1, f"new {step}")
        patch(ours, 1, 1, f"one, version {step}")
        if step in drains:
            drain_all()

    # when the reader comes back,
    events = following.follow()

    # then it gets all that is new, in order, no version twice, and the last one of each.
    assert [following.shown[1, n] for n in range(1, 7)] == as_listed(ours, 1)
    assert following.arrivals == sorted(set(following.arrivals))
    assert RESET not in events
    assert [text for text in seen(events) if text.startswith("new")] == [f"new {step}" for step in range(1, 5)]
    # Older versions of what is stored are left out.
    assert len(events) == 8 - max(len(drains) and max(drains) - 1, 0)


def test_list_then_stream_from_its_position_misses_nothing(ours: Tenant, following: Follower) -> None:
    # Given a list, read before a write,
    position = position_of(ours, "/chats/1/messages")
    ours.message(1, "after the list")
    drain_all()

    # when a reader begins at its position, then it sees the write.
    assert seen(Follower(ours.token, position).follow()) == ["after the list"]
    # The 304 of a list has the newer position, since the list is still the same.
    listed = ours.api.get(f"{ours.path}/chats/1/messages")
    again = ours.api.get(f"{ours.path}/chats/1/messages", headers={"If-None-Match": listed["ETag"]})
    assert (again.status_code, again["Stream-Position"]) == (304, listed["Stream-Position"])


def test_a_drain_that_wrote_no_feed_row_is_a_reset(
    ours: Tenant, following: Follower, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a worker of a former version, which knows no feed, between two drains of this one,
    with monkeypatch.context() as former:
        former.setattr(feed, "add", lambda *args: None)
        ours.message(1, "stored by the former version")
        drain_all()
    ours.message(1, "stored by this one")
    drain_all()

    # when a reader from before comes back, then it is told, and goes on.
    assert following.follow() == [RESET]
    ours.message(1, "next")
    assert seen(following.follow()) == ["next"]


def test_the_feed_goes_back_seven_days_and_what_is_older_is_a_reset(ours: Tenant, following: Follower) -> None:
    ours.message(1, "old")
    drain_all()
    day = 24 * 3600 * 1_000_000
    newest = FeedRow.objects.filter(partition=partition_of(ours.token)).latest("through").through

    assert feed.trim(newest + 6 * day) == 0
    behind = Follower(ours.token, following.position)
    assert seen(behind.follow()) == ["old"]

    assert feed.trim(newest + 8 * day) > 0
    assert following.follow() == [RESET]


def test_a_quiet_stream_does_not_age(ours: Tenant, following: Follower) -> None:
    # Given a partition without a write for longer than the feed goes back,
    assert following.follow() == []
    FeedRow.objects.all().delete()

    # when the next write comes, then the reader sees it.
    ours.message(1, "at last")
    drain_all()
    assert seen(following.follow()) == ["at last"]


def test_a_redis_that_restarts_without_a_loss_resets_nobody(
    ours: Tenant, following: Follower, redis_server: RealRedis
) -> None:
    ours.message(1, "before")
    redis_server.restart()
    # Nothing is written, so that nobody but the reader itself lets the partition pass its fence.
    assert seen(following.follow()) == ["before"]
    redis_server.restart()
    ours.message(1, "after")
    assert seen(following.follow()) == ["after"]
    assert following.position.term == 3


@pytest.mark.parametrize("is_seen", [True, False])
def test_a_redis_that_lost_everything_resets_those_who_saw_what_is_lost(
    ours: Tenant, following: Follower, state: Any, is_seen: bool
) -> None:
    # Given a message that Redis loses before it is stored,
    ours.message(1, "lost")
    if is_seen:
        assert seen(following.follow()) == ["lost"]
    state.flushall()

    # when others follow, under the number of the lost one,
    assert ours.message(1, "in its place")["number"] == 3
    drain_all()

    # then who saw it is told, and who did not misses nothing.
    assert seen(following.follow()) == ([RESET] if is_seen else ["in its place"])


def test_two_losses_without_a_drain_in_between_reset_those_who_saw_the_first(
    ours: Tenant, following: Follower, state: Any
) -> None:
    # Given an event that was seen in between,
    state.flushall()
    ours.message(1, "lost too")
    assert seen(following.follow()) == ["lost too"]
    state.flushall()

    # when the epoch begins at the same arrival again,
    ours.message(1, "kept")

    # then the reader is told.
    assert following.follow() == [RESET]


def test_an_older_copy_of_redis_that_is_not_behind_the_database_resets_those_who_saw_more(
    ours: Tenant, following: Follower, state: Any, redis_server: RealRedis
) -> None:
    # Given a copy that has an event which is not stored,
    ours.message(1, "in the copy")
    away = Follower(ours.token, following.position)
    assert seen(following.follow()) == ["in the copy"]
    copy = dump(state)
    ours.message(1, "not in the copy")
    knows_more = Follower(ours.token, following.position)
    knows_more.follow()

    # when Redis comes back with it, which keeps the epoch,
    state.flushall()
    put_back(state, copy)
    redis_server.restart()
    ours.message(1, "since")

    # then only who saw more is reset.
    assert seen(away.follow()) == ["in the copy", "since"]
    assert seen(following.follow()) == ["since"]
    assert knows_more.follow() == [RESET]


def test_an_older_copy_of_redis_hides_nothing_that_is_stored(
    ours: Tenant, following: Follower, state: Any, redis_server: RealRedis, nobody_waits: None
) -> None:
    # Given a copy whose log has the first version of a message, while the second one is stored,
    patch(ours, 1, 1, "first")
    copy = dump(state)
    patch(ours, 1, 1, "second")
    ours.message(1, "three")
    drain_all()

    # when Redis comes back with it,
    state.flushall()
    put_back(state, copy)
    redis_server.restart()

    # then the reader sees what is stored, and nothing that the log has brought back.
    assert seen(following.follow()) == ["second", "three"]
    assert following.follow() == []


@pytest.mark.parametrize("first", ["the first to name it", "the second one"])
@pytest.mark.parametrize("processes", [2, 3])
@pytest.mark.parametrize("is_empty", [False, True], ids=["restarts", "comes back empty"])
def test_processes_that_let_redis_pass_at_the_same_time_cost_no_reset(
    ours: Tenant,
    following: Follower,
    redis_server: RealRedis,
    monkeypatch: pytest.MonkeyPatch,
    first: str,
    processes: int,
    is_empty: bool,
) -> None:
    # Given an event that a reader has seen and that is not stored, and processes that let a restarted Redis pass,
    ours.message(1, "three")
    assert seen(following.follow()) == ["three"]
    redis_server.restart()
    pass_fences = redis_guards.pass_fences
    waiting: list[tuple[Any, ...]] = []

    def in_a_race(*args: Any) -> dict[int, str]:
        waiting.append(args)
        if len(waiting) < processes:
            tasks.sweep()
            assert len(waiting) == processes
        elif first == "the first to name it":
            return pass_fences(*waiting[0])
        return pass_fences(*args)

    with monkeypatch.context() as racing:
        racing.setattr(redis_guards, "pass_fences", in_a_race)
        ours.message(1, "four")

    # when Redis restarts once more, or comes back empty when everything is stored, then the reader goes on.
    assert seen(following.follow()) == ["four"]
    if is_empty:
        drain_all()
        redis_server.client.flushall()
    else:
        redis_server.restart()
    ours.message(1, "five")
    assert seen(following.follow()) == ["five"]


def test_a_reader_in_the_middle_of_what_one_drain_stores_sees_nothing_twice(ours: Tenant, following: Follower) -> None:
    ours.message(1, "three")
    assert seen(following.follow()) == ["three"]
    ours.message(1, "four")
    drain_all()

    assert seen(following.follow()) == ["four"]


def test_a_dead_event_is_shown_once_and_replaying_it_changes_nothing(
    ours: Tenant, following: Follower, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given messages that the database refuses,
    away = Follower(ours.token, following.position)
    with monkeypatch.context() as refusing:
        refusing.setattr("messages_app.persist.write", _refuse)
        ours.message(1, "three")
        patch(ours, 1, 3, "three, changed")
        patch(ours, 1, 1, "one, changed")
        drain_all()
    assert DeadEvent.objects.count() == 3

    # when readers follow, then they see them as every read does,
    assert seen(away.follow()) == ["three, changed", "one, changed"]
    assert [away.shown[1, 3], away.shown[1, 1]] == [as_listed(ours, 1)[2], as_listed(ours, 1)[0]]
    # and once they are stored, those who saw them see nothing again, and those who did not see them once.
    for event in dead_events.oldest_first(DeadEvent.objects.all()):
        assert dead_events.replay(event)
    assert away.follow() == []
    assert seen(following.follow()) == ["three, changed", "one, changed"]


def test_a_discarded_dead_event_resets_the_streams_of_its_application_alone(
    ours: Tenant, theirs: Tenant, following: Follower, state: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a dead event that a reader has seen,
    others = Follower.of(theirs)
    with monkeypatch.context() as refusing:
        refusing.setattr("messages_app.persist.write", _refuse)
        patch(ours, 1, 1, "refused")
        drain_all()
    assert seen(following.follow()) == ["refused"]
    partition = partition_of(ours.token)

    # when it is discarded,
    dead_events.discard(DeadEvent.objects.get(), "somebody", "a test")

    # then the log tells readers where its application's streams are reset,
    tail = tails({partition: following.position.arrival})[partition]
    assert not isinstance(tail, exceptions.LogUnavailable)
    assert tail.withdrawn == {ours.token: tail.clock}
    assert Follower(ours.token, following.position).follow() == [RESET]
    # and one that comes back when Redis has lost that learns it from the database.
    state.delete(Keys(partition).withdrawn)
    ours.message(1, "three")
    drain_all()
    assert following.follow() == [RESET]
    assert seen(following.follow()) == []
    assert others.follow() == []


def test_a_dead_event_with_a_malformed_path_blocks_nobody(ours: Tenant, following: Follower, state: Any) -> None:
    keys = Keys(partition_of(ours.token))
    arrival = int(state.get(keys.clock)) + 1
    state.set(keys.clock, arrival)
    state.xadd(keys.log, {"verb": "update", "path": f"{ours.token}/1/none", "text": "x"}, id=f"{arrival}-0")
    drain_all()
    ours.message(1, "three")
    drain_all()

    assert seen(following.follow()) == ["three"]


def test_an_older_database_that_is_accepted_resets_those_who_saw_more(ours: Tenant, following: Follower) -> None:
    # Given a database that lost a message, and an operator who accepts that,
    partition = partition_of(ours.token)
    before = Partition.objects.get(pk=partition)
    ours.message(1, "lost")
    away = Follower(ours.token, following.position)
    following.follow()
    drain_all()
    Message.objects.filter(body="lost").delete()
    FeedRow.objects.filter(partition=partition, through__gt=before.drained_through).delete()
    Partition.objects.filter(pk=partition).update(drained_through=before.drained_through)
    tasks.sweep()
    # A halted partition shows nothing.
    halted = tails({partition: 0})[partition]
    assert isinstance(halted, exceptions.DatabaseBehind)
    call_command("accept_database", "--yes", stdout=StringIO())

    # when a message follows,
    ours.message(1, "since")

    # then who saw the lost one is reset, and who did not goes on.
    assert following.follow() == [RESET]
    assert seen(away.follow()) == ["since"]


def test_a_superseded_redis_shows_nothing(ours: Tenant, following: Follower) -> None:
    partition = partition_of(ours.token)
    ours.message(1, "three")
    redis_guards.supersede([partition])

    assert isinstance(tails({partition: 0})[partition], exceptions.Superseded)


def test_a_long_log_is_read_in_parts(ours: Tenant, following: Follower) -> None:
    ours.batch(1, [f"message {n}" for n in range(3, 1001)])
    ours.batch(1, ["x" * 16_000 for _ in range(200)])

    assert len(following.follow()) == 1198
    assert [following.shown[1, n] for n in range(1, 1001)] == as_listed(ours, 1)


def test_each_drain_links_its_feed_row_to_the_one_before(ours: Tenant, theirs: Tenant, following: Follower) -> None:
    for step in range(3):
        ours.message(1, f"step {step}")
        ours.api.patch(ours.path, {"name": f"name {step}"}, format="json")
        drain_all()

    partition = partition_of(ours.token)
    links = list(FeedRow.objects.filter(partition=partition).order_by("through").values_list("after", "through"))
    assert [after for after, _ in links[1:]] == [through for _, through in links[:-1]]
    assert links[-1][1] == Partition.objects.get(pk=partition).drained_through
    assert FeedRow.objects.exclude(partition__in=range(PARTITIONS)).count() == 0


def test_a_position_of_a_term_that_nobody_knows_is_not_valid(ours: Tenant, following: Follower) -> None:
    following.position = Position(following.position.term + 5, following.position.arrival)
    assert following.follow() == [RESET]


def test_the_smallest_arrival_of_all_terms_since_counts(ours: Tenant) -> None:
    partition = Partition.objects.get(pk=partition_of(ours.token))
    FormerTerm.objects.filter(partition=partition).delete()
    for term, through in ((3, 300), (4, 200), (5, 500)):
        FormerTerm.objects.create(partition=partition, term=term, through=through)

    assert [terms.counts_through(partition.pk, term) for term in (2, 3, 4, 5, 6)] == [200, 200, 200, 500, None]


@pytest.mark.parametrize("text", ["", "1", "1-", "-1", "01-1", "1-01", "1-1 ", "1-1-1", "¹-1", "1-" + "9" * 19])
def test_what_is_no_position_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a position"):
        Position.parse(text)
    assert str(Position.parse("7-1795449565599123")) == "7-1795449565599123"


def _refuse(changes: object) -> None:
    raise LookupError("refused by a test")
