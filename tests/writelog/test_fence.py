"""The fence: what a Redis process may trust of the numbers that it finds. Documented in docs/write-log.md."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from chats.models import Chat
from chatsystem.writelog.arrival import to_datetime
from chatsystem.writelog.intake import accept
from chatsystem.writelog.keys import Keys, partition_of
from chatsystem.writelog.log import Write
from chatsystem.writelog.partitions import locked
from messages_app.models import Message
from tests.bench import RealRedis, Tenant, drain_all, in_threads

CHATS = 20


@pytest.fixture
def many(ours: Tenant) -> Tenant:
    """An application whose chats 1 to 20 have a message each, stored."""
    for _ in range(CHATS):
        ours.message(ours.chat()["number"])
    drain_all()
    return ours


def post_to_each(tenant: Tenant) -> set[int]:
    """The numbers that one further message gets in each chat."""
    return {tenant.message(chat)["number"] for chat in range(1, CHATS + 1)}


@contextmanager
def rolled_back(state: Any, redis_server: RealRedis) -> Iterator[None]:
    """What happens within is forgotten by Redis, which comes back as another process."""
    before = {name: state.dump(name) for name in state.keys("{*")}
    yield
    state.flushall()
    for name, value in before.items():
        state.restore(name, 0, value)
    redis_server.restart()


def locks_taken(queries: CaptureQueriesContext) -> int:
    """How often the partition's row was asked for."""
    return sum('FROM "writelog_partition"' in q["sql"].replace("`", '"') for q in queries.captured_queries)


def test_a_restarted_redis_that_lost_nothing_is_compared_once_for_all_its_parents(
    many: Tenant, redis_server: RealRedis
) -> None:
    # Given chats with stored messages, and with some that wait,
    many.message(1)
    redis_server.restart()

    # when each is posted to, then the first post compares the partition with the database, and the others ask nothing.
    with CaptureQueriesContext(connection) as first:
        assert many.message(1)["number"] == 3
    assert locks_taken(first) == 1
    with CaptureQueriesContext(connection) as others:
        assert {many.message(chat)["number"] for chat in range(2, CHATS + 1)} == {2}
    assert len(others) == 0
    drain_all()
    assert Message.objects.count() == 2 * CHATS + 1


def test_a_redis_that_lost_what_is_stored_trusts_no_number_until_it_is_seeded(
    many: Tenant, state: Any, redis_server: RealRedis
) -> None:
    # Given a Redis that went back to before one further message in each chat,
    with rolled_back(state, redis_server):
        assert post_to_each(many) == {2}
        drain_all()

    # when one of them has been posted to, which lets its clock go on, and Redis restarts once more,
    assert many.message(1)["number"] == 3
    redis_server.restart()

    # then the clock is ahead of the database and the other numbers are still not trusted.
    assert post_to_each(many) == {3, 4}
    drain_all()
    assert Message.objects.count() == 3 * CHATS + 1


def test_a_redis_that_was_a_replica_meanwhile_is_compared_again_though_it_is_the_same_process(
    many: Tenant, state: Any
) -> None:
    # Given a Redis that yields to another one, which numbers a message in each chat, and does not receive them,
    before = {name: state.dump(name) for name in state.keys("{*")}
    assert post_to_each(many) == {2}
    drain_all()
    for name, value in before.items():
        state.restore(name, 0, value, replace=True)
    # A master that nobody answers for: what it would send is lost.
    state.replicaof("127.0.0.1", 1)

    # when it is promoted again, then it gives none of their numbers.
    state.replicaof("NO", "ONE")
    assert post_to_each(many) == {3}
    drain_all()
    assert Message.objects.count() == 3 * CHATS


def test_a_redis_that_lost_only_what_is_not_stored_goes_on_with_what_it_has(
    many: Tenant, state: Any, redis_server: RealRedis
) -> None:
    with rolled_back(state, redis_server):
        many.message(1, "lost with the log that held it")

    assert many.message(1, "kept")["number"] == 2
    drain_all()
    assert list(Message.objects.filter(number=2).values_list("body", flat=True)) == ["kept"]


def test_redis_is_compared_with_what_a_drain_under_way_is_about_to_store(
    many: Tenant, state: Any, redis_server: RealRedis
) -> None:
    # Given a drain that has read a message and not yet stored it, when Redis comes back without it,
    answered: list[int] = []
    with rolled_back(state, redis_server):
        read = accept(many.token, Write("create", f"{many.token}/1", "", ["stored"]), {})
    with locked(partition_of(many.token)) as row:
        post = threading.Thread(target=in_threads, args=(lambda _: answered.append(many.message(1)["number"]), [0]))
        post.start()
        # then the next post waits for the drain,
        post.join(0.5)
        assert answered == []
        moment = to_datetime(read.arrival)
        Message.objects.create(
            chat=Chat.objects.get(number=1),
            number=read.number,
            body="stored",
            created_at=moment,
            last_request_time=moment,
        )
        row.drained_through = read.arrival
        row.save()
    post.join()

    # and gets the number after what it stored.
    assert answered == [read.number + 1]


@pytest.mark.parametrize("lose", [lambda state, keys: state.flushall(), lambda state, keys: state.delete(keys.fence)])
def test_without_a_fence_every_number_is_seeded(many: Tenant, state: Any, lose: Callable[[Any, Keys], object]) -> None:
    lose(state, Keys(partition_of(many.token)))

    assert post_to_each(many) == {2}
    drain_all()
    assert Message.objects.count() == 2 * CHATS


def test_a_lineage_is_unlike_all_before_it(many: Tenant, state: Any) -> None:
    # Given numbers of a first lineage, in a Redis that loses its fence and nothing else,
    keys = Keys(partition_of(many.token))
    first = state.get(keys.fence).split(" ")
    told = state.hgetall(keys.numbers)

    # when the same process passes again,
    state.delete(keys.fence)
    many.message(1)

    # then its lineage has another name, later than any arrival, and only what was seeded belongs to it.
    second = state.get(keys.fence).split(" ")
    assert second[1] == first[1]
    assert int(second[0]) > int(first[0])
    numbers = state.hgetall(keys.numbers)
    assert {path for path, number in numbers.items() if number.endswith(f" {second[0]}")} == {f"{many.token}/1"}
    assert {path: number for path, number in told.items() if path != f"{many.token}/1"}.items() <= numbers.items()
