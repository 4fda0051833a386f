"""Accepting writes: numbers, arrivals, the fence, receipts, limits."""

from __future__ import annotations

import secrets
import threading
from typing import Any

import pytest
from django.db import connection

from chatsystem.writelog import append as append_module
from chatsystem.writelog import bulk, dead_events, ownership, reads, redis_client, scripts, seeding, stream
from chatsystem.writelog import drain as drain_module
from chatsystem.writelog.append import RequestKey, Write, append, run_append
from chatsystem.writelog.bulk import insert
from chatsystem.writelog.exceptions import UnknownEntity
from chatsystem.writelog.keys import Keys, partition_of
from chatsystem.writelog.models import DeadEvent
from messages_app.models import Message
from tests.support.harness import RealRedis, Tenant, drain_all, dump, in_threads, put_back
from tests.writelog.test_limits import neighbour


def test_sixteen_threads_posting_to_one_chat_get_the_numbers_1_to_n_and_each_body_its_own(ours: Tenant) -> None:
    # Given a chat,
    ours.chat()

    # when 16 clients post 40 messages each, at once, while drains run,
    acknowledged: dict[int, str] = {}
    stop = threading.Event()

    def post(client: int) -> None:
        for i in range(40):
            body = f"client {client}, message {i}"
            number = ours.message(1, body)["number"]
            assert acknowledged.setdefault(number, body) == body

    drains = threading.Thread(target=_drain_until, args=(stop,))
    drains.start()
    in_threads(post, range(16))
    stop.set()
    drains.join()
    drain_all()

    # then the numbers are exactly 1..640, and each body is stored under the number that its client was given.
    assert sorted(acknowledged) == list(range(1, 641))
    assert dict(Message.objects.values_list("number", "body")) == acknowledged


def test_sixteen_threads_opening_chats_get_the_numbers_1_to_n(ours: Tenant) -> None:
    numbers: list[int] = []
    in_threads(lambda client: numbers.extend(ours.chat(f"by {client}")["number"] for _ in range(10)), range(16))

    assert sorted(numbers) == list(range(1, 161))


def test_arrivals_increase_strictly_in_a_partition_even_when_the_clock_stands_behind(ours: Tenant, state: Any) -> None:
    # Given a partition whose newest event has an arrival an hour ahead of the clock,
    clock = Keys(partition_of(ours.token)).clock
    ahead = int(state.get(clock)) + 3_600_000_000
    state.set(clock, ahead)

    # when two writes arrive,
    first, second = ours.chat(), ours.chat()

    # then each is later than all before it.
    assert ours.get()["created_at"] < first["created_at"] < second["created_at"]
    assert int(state.get(clock)) == ahead + 2


@pytest.mark.parametrize("lost", ["numbers", "clock", "everything"])
def test_a_redis_that_lost_its_numbers_goes_on_after_the_last_stored_one(ours: Tenant, state: Any, lost: str) -> None:
    # Given three stored messages,
    ours.chat()
    ours.batch(1, ["1", "2", "3"])
    drain_all()

    # when Redis loses its numbers, its clock, or everything it holds,
    keys = Keys(partition_of(ours.token))
    state.flushall() if lost == "everything" else state.delete(getattr(keys, lost))

    # then the next message is number 4, the next chat number 2, and both arrive later than what is stored.
    message, chat = ours.message(1, "4"), ours.chat()
    assert (message["number"], chat["number"]) == (4, 2)
    assert message["created_at"] > ours.get("/chats/1/messages/3")["created_at"]


def test_a_redis_that_lost_its_numbers_and_kept_its_log_goes_on_after_the_last_one_acknowledged(
    ours: Tenant, state: Any
) -> None:
    # Given a chat with a stored message and two that wait in the log,
    ours.chat()
    ours.message(1, "1")
    drain_all()
    ours.batch(1, ["2", "3"])

    # when only the numbers are lost,
    state.delete(Keys(partition_of(ours.token)).numbers)

    # then the waiting ones count.
    assert ours.message(1, "4")["number"] == 4


def test_a_flushed_redis_whose_clock_stands_behind_what_is_stored_goes_on_from_there(ours: Tenant, state: Any) -> None:
    # Given a message stored with an arrival an hour from now,
    ours.chat()
    state.incrby(Keys(partition_of(ours.token)).clock, 3_600_000_000)
    stored = ours.message(1, "as created")
    drain_all()

    # when Redis loses everything, and with it that clock,
    state.flushall()

    # then an update still arrives later than what it updates, and wins.
    updated = ours.api.patch(f"{ours.path}/chats/1/messages/1", {"body": "as edited"}, format="json").json()
    assert updated["last_request_time"] > stored["last_request_time"]
    drain_all()
    assert Message.objects.get().body == "as edited"


@pytest.mark.parametrize("discarded", [False, True])
def test_the_number_of_a_dead_event_is_not_given_again(
    ours: Tenant, state: Any, monkeypatch: pytest.MonkeyPatch, discarded: bool
) -> None:
    # Given acknowledged messages that the database refused and that a person may have discarded,
    ours.chat()
    drain_all()
    ours.batch(1, ["refused"] * 3)
    with monkeypatch.context() as patched:
        patched.setattr(bulk, "insert", _refuse)
        drain_all()

    # when Redis loses everything, so that only the dead or discarded events hold the numbers,
    for event in DeadEvent.objects.all() if discarded else ():
        dead_events.discard(event, "somebody", "a test")
    state.flushall()

    # then their numbers are not given again, and do not count as numbers of chats.
    assert ours.message(1, "the next one")["number"] == 4
    assert ours.chat()["number"] == 2


def test_a_redis_rolled_back_to_an_old_state_hands_out_no_number_a_second_time(
    ours: Tenant, state: Any, redis_server: RealRedis, nobody_waits: None
) -> None:
    # Given a Redis whose counter stands at 2, while 5 messages are stored,
    ours.chat()
    ours.batch(1, ["1", "2"])
    keys = Keys(partition_of(ours.token))
    before = dump(state)
    ours.batch(1, ["3", "4", "5"])
    drain_all()
    state.flushall()
    put_back(state, before)

    # when it comes back as another process,
    redis_server.restart()

    # then its numbers are not trusted: the next one is 6, and what is stored stays.
    assert state.hget(keys.numbers, f"{ours.token}/1").startswith("2 ")
    assert ours.message(1, "6")["number"] == 6
    drain_all()
    assert list(Message.objects.order_by("number").values_list("body", flat=True)) == ["1", "2", "3", "4", "5", "6"]


def test_a_rolled_back_redis_shows_what_is_stored_and_not_what_it_remembers(ours: Tenant, state: Any) -> None:
    # Given a Redis restored to a state before an edit and two messages, all of which are stored,
    ours.chat()
    ours.message(1, "as first written")
    before = dump(state)
    ours.api.patch(f"{ours.path}/chats/1/messages/1", {"body": "as edited"}, format="json")
    ours.batch(1, ["2", "3"])
    drain_all()
    state.flushall()
    put_back(state, before)

    # then reads show the stored text and all messages, from both ends, even before the next write.
    assert ours.get("/chats/1/messages/1")["body"] == "as edited"
    for order in ("asc", "desc"):
        bodies = [message["body"] for message in ours.get("/chats/1/messages", order=order)["results"]]
        assert sorted(bodies) == ["2", "3", "as edited"]


def test_twenty_seeders_at_once_agree_on_the_numbers(ours: Tenant, state: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis_client, "LOCK_SECONDS", 60)
    # Given a chat with ten stored messages and a Redis that lost everything,
    ours.chat()
    ours.batch(1, [str(i) for i in range(10)])
    drain_all()
    state.flushall()

    # when 20 clients post at once,
    numbers: list[int] = []
    in_threads(lambda client: numbers.append(ours.message(1, f"by {client}")["number"]), range(20))

    # then they get the next 20 numbers, each once.
    assert sorted(numbers) == list(range(11, 31))


def test_seeding_holds_the_applications_lock_and_releases_it(
    ours: Tenant, state: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a Redis that lost its numbers,
    ours.chat()
    drain_all()
    keys = Keys(partition_of(ours.token))
    state.delete(keys.numbers)
    left: list[int] = []
    seed = seeding.set_last_number

    def look_then_seed(*args: Any) -> None:
        left.append(state.pttl(keys.application_lock(ours.token)))
        seed(*args)

    # when they are seeded, then the application's lock is held, for a few seconds at most if this process dies.
    monkeypatch.setattr(seeding, "set_last_number", look_then_seed)
    ours.message(1)
    assert -1 != left[0] <= 3_000
    assert not state.exists(keys.application_lock(ours.token))


@pytest.mark.parametrize("step", ["seed", "keep"])
def test_a_lease_that_ends_while_the_redis_is_prepared_costs_no_write(
    ours: Tenant, state: Any, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    # Given a Redis that was emptied, and a database so slow that the lease ends during a step,
    ours.chat()
    drain_all()
    keys = Keys(partition_of(ours.token))
    state.flushall()
    module = append_module if step == "seed" else ownership
    do, ended = getattr(module, step), []

    def do_slowly(*args: Any) -> None:
        do(*args)
        if not ended:
            ended.append(state.delete(keys.lease))

    # when a message is posted, then it is accepted.
    monkeypatch.setattr(module, step, do_slowly)
    assert ours.message(1)["number"] == 1
    assert ended == [1]


def test_two_applications_of_one_partition_seed_without_waiting_for_each_other(
    ours: Tenant, state: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given two applications of one partition, with a chat and a message each, and a Redis that lost their numbers,
    tenants = [ours, neighbour(ours)]
    for tenant in tenants:
        tenant.chat()
        tenant.message(1)
    drain_all()
    state.delete(Keys(partition_of(ours.token)).numbers)

    # when a request of each has to seed, and neither goes on before both do,
    monkeypatch.setattr(redis_client, "LOCK_SECONDS", 60)
    together, seed = threading.Barrier(2), append_module.seed

    def seed_together(*args: Any) -> None:
        together.wait(timeout=60)
        seed(*args)

    monkeypatch.setattr(append_module, "seed", seed_together)
    numbers: list[int] = []
    in_threads(lambda client: numbers.append(tenants[client].message(1)["number"]), range(2))

    # then neither has waited for the other, and both go on after their last number.
    assert numbers == [2, 2]


def test_two_requests_of_one_application_seed_once(ours: Tenant, state: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given a chat with a message, and a Redis that lost its numbers,
    ours.chat()
    ours.message(1)
    drain_all()
    state.delete(Keys(partition_of(ours.token)).numbers)

    # when two requests find that out before either of them has the lock,
    monkeypatch.setattr(redis_client, "LOCK_SECONDS", 60)
    together, lock, seed = threading.Barrier(2), append_module.short_lock, append_module.seed
    seeds: list[int] = []

    def lock_together(partition: int, key: str) -> Any:
        together.wait(timeout=60)
        return lock(partition, key)

    def count_then_seed(partition: int, last_numbers: Any) -> None:
        seeds.append(partition)
        seed(partition, last_numbers)

    monkeypatch.setattr(append_module, "short_lock", lock_together)
    monkeypatch.setattr(append_module, "seed", count_then_seed)
    numbers: list[int] = []
    in_threads(lambda client: numbers.append(ours.message(1)["number"]), range(2))

    # then one of them seeds.
    assert seeds == [partition_of(ours.token)]
    assert sorted(numbers) == [2, 3]


@pytest.mark.parametrize("restored", [False, True])
def test_a_seed_waits_for_the_drain_that_is_storing(
    ours: Tenant, state: Any, monkeypatch: pytest.MonkeyPatch, restored: bool
) -> None:
    # Given a drain that has written two messages and not yet committed them,
    ours.chat()
    drain_all()
    before = dump(state)
    fence = Keys(partition_of(ours.token)).fence
    ours.batch(1, ["1", "2"])
    storing, commit, posted = threading.Event(), threading.Event(), threading.Event()
    store = drain_module.store

    def store_and_wait(events: Any) -> Any:
        dead_events = store(events)
        storing.set()
        assert commit.wait(60)
        return dead_events

    def work(role: int) -> None:
        if role == 0:
            drain_module.drain([partition_of(ours.token)])
            return
        # when Redis loses its numbers or everything, so that only that drain knows them, and a client posts,
        assert storing.wait(60)
        if role == 1:
            state.flushall()
            if restored:
                put_back(state, before)
                # As another process, because the previous one had passed the restored fence.
                state.set(fence, state.get(fence).partition(" ")[0] + " 0")
            numbers.append(ours.message(1, "3")["number"])
            posted.set()
        else:
            # (a POST that does not wait returns at once)
            posted.wait(0.5)
            commit.set()

    # then the message gets a number after theirs.
    numbers: list[int] = []
    monkeypatch.setattr(drain_module, "store", store_and_wait)
    in_threads(work, range(3))
    assert numbers == [3]


def test_a_write_for_an_unknown_parent_leaves_no_key_behind(ours: Tenant, state: Any) -> None:
    before = sorted(state.keys())
    unknown = "0" * 32

    for path in (f"/applications/{unknown}/chats", f"/applications/{unknown}/chats/1/messages"):
        response = ours.api.post(path, {"title": "x", "body": "x"}, format="json")
        assert response.status_code == 404
    for path in (f"/applications/{unknown}", f"{ours.path}/chats/1", f"{ours.path}/chats/1/messages/1"):
        response = ours.api.patch(path, {"name": "x", "title": "x", "body": "x"}, format="json")
        assert response.status_code == 404

    assert sorted(state.keys()) == before


@pytest.mark.parametrize("lost", ["nothing", "the lease", "the fence"])
def test_a_write_for_an_unknown_parent_drains_nothing(ours: Tenant, state: Any, lost: str) -> None:
    # Given an unknown token, in a partition whose log holds events,
    ours.chat()
    unknown = ours.token
    while unknown == ours.token or partition_of(unknown) != partition_of(ours.token):
        unknown = secrets.token_hex(16)
    waiting = stream.lengths()
    keys = Keys(partition_of(unknown))
    state.delete(*{"nothing": [keys.hinted], "the lease": [keys.lease], "the fence": [keys.fence]}[lost])

    # when a client writes to it, then it is a 404 that costs no drain.
    assert ours.api.post(f"/applications/{unknown}/chats", {"title": "x"}, format="json").status_code == 404
    assert stream.lengths() == waiting


def test_a_chat_that_waits_in_the_log_can_be_posted_to_though_redis_lost_its_numbers(ours: Tenant, state: Any) -> None:
    ours.chat()
    state.delete(Keys(partition_of(ours.token)).numbers)

    assert ours.message(1)["number"] == 1


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_parent_that_is_stored_while_its_numbers_are_looked_for_is_known(
    ours: Tenant, state: Any, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """Asks the pending view first and the database second. In the other order neither would know the parent."""
    ask = reads.pending

    def with_a_drain(*args: str) -> Any:
        if moment == "before":
            drain_all()
        found = ask(*args)
        if moment == "after":
            drain_all()
        return found

    # Given a parent of each kind that waits in the log, and a Redis that lost its numbers,
    for post in (ours.chat, lambda: ours.message(1)):
        state.delete(Keys(partition_of(ours.token)).numbers)

        # when a client posts to it, and a drain stores it just before or after the pending view is read,
        with monkeypatch.context() as patched:
            patched.setattr(reads, "pending", with_a_drain)
            # then the parent is found.
            assert post()["number"] == 1


def test_the_same_request_sent_again_by_the_client_library_is_one_write(ours: Tenant) -> None:
    # Given a chat,
    ours.chat()
    write = Write("create", f"{ours.token}/1", "", ["once"])
    key = RequestKey("the request's own id")

    # when the answer to a write is lost, and the same script is sent again,
    first = run_append(ours.token, write, key, ours.token)
    second = run_append(ours.token, write, key, ours.token)

    # then it is one message, under one number.
    assert (first[0], second[0]) == ("ok", "again")
    assert first[1:3] == second[1:3]
    assert [m["body"] for m in ours.get("/chats/1/messages")["results"]] == ["once"]


def test_a_redis_that_restarts_between_the_loading_of_a_script_and_its_call_is_a_503(
    ours: Tenant, state: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a Redis that forgets append.lua before each call,
    state.script_flush()
    ask = scripts._ask

    def load_in_vain(connection: Any, *command: Any) -> Any:
        answer = ask(connection, *command)
        if command[0] == "SCRIPT":
            state.script_flush()
        return answer

    # when a client posts, then it is a 503, and a retry succeeds.
    with monkeypatch.context() as patched:
        patched.setattr(scripts, "_ask", load_in_vain)
        refused = ours.api.post(f"{ours.path}/chats", {"title": "x"}, format="json")
    assert (refused.status_code, refused.headers["Retry-After"]) == (503, "1")
    assert ours.chat()["number"] == 1


def test_an_update_of_a_number_never_given_is_unknown(ours: Tenant) -> None:
    ours.chat()
    with pytest.raises(UnknownEntity):
        append(ours.token, Write("update", f"{ours.token}/1", "1", ["x"]), {})


def test_a_post_in_the_steady_state_touches_no_database(ours: Tenant, django_assert_num_queries: Any) -> None:
    ours.chat()
    with django_assert_num_queries(0, connection=connection):
        ours.message(1)


def _refuse(model: Any, *args: Any) -> None:
    if model is Message:
        raise ValueError("refused by the database")
    insert(model, *args)


def _drain_until(stop: threading.Event) -> None:
    try:
        while not stop.is_set():
            drain_all()
    finally:
        connection.close()
