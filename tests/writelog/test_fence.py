"""The fence: which of its numbers a Redis process may trust. Documented in docs/write-log.md."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from chats.models import Chat
from chatsystem.writelog.append import Write, append
from chatsystem.writelog.events import to_datetime
from chatsystem.writelog.keys import Keys, partition_of
from chatsystem.writelog.partitions import locked
from messages_app.models import Message
from tests.support.harness import RealRedis, Tenant, drain_all, dump, in_threads, put_back

CHATS = 20

#: The ways to identify a Redis process.
either_way = pytest.mark.parametrize("told_by", ["INFO", "a mark"], indirect=True)


@pytest.fixture(autouse=True)
def told_by(
    request: pytest.FixtureRequest, state: Any, redis_server: RealRedis, monkeypatch: pytest.MonkeyPatch
) -> Iterator[str]:
    """Identifies Redis by INFO, or by a mark if its user may not run INFO."""
    by = getattr(request, "param", "INFO")

    def forbid() -> None:
        state.execute_command("ACL", "SETUSER", "default", "-info")

    def restart() -> None:
        RealRedis.restart(redis_server)
        forbid()

    if by == "a mark":
        forbid()
        # Redis forgets its users.
        monkeypatch.setattr(redis_server, "restart", restart)
    yield by
    state.execute_command("ACL", "SETUSER", "default", "+@all")


@pytest.fixture
def many(ours: Tenant) -> Tenant:
    """An application with chats 1 to 20, with one stored message each."""
    for _ in range(CHATS):
        ours.message(ours.chat()["number"])
    drain_all()
    return ours


def post_to_each(tenant: Tenant) -> set[int]:
    """Posts one message to each chat and returns their numbers."""
    return {tenant.message(chat)["number"] for chat in range(1, CHATS + 1)}


@contextmanager
def rolled_back(state: Any, redis_server: RealRedis) -> Iterator[None]:
    """Makes Redis forget what happens inside the block and come back as another process."""
    before = dump(state)
    yield
    state.flushall()
    put_back(state, before)
    redis_server.restart()


def take_overs(queries: CaptureQueriesContext) -> int:
    """Returns how often the owner of the partitions was written to the database."""
    return sum('UPDATE "writelog_partition"' in q["sql"].replace("`", '"') for q in queries.captured_queries)


@either_way
def test_a_restarted_redis_that_lost_nothing_is_compared_once_for_all_its_parents(
    many: Tenant, redis_server: RealRedis
) -> None:
    # Given chats with stored messages, and with some that wait,
    many.message(1)
    redis_server.restart()

    # when each gets a message, then the first POST compares Redis with the database, and the others do not.
    with CaptureQueriesContext(connection) as first:
        assert many.message(1)["number"] == 3
    assert take_overs(first) == 1
    with CaptureQueriesContext(connection) as others:
        assert {many.message(chat)["number"] for chat in range(2, CHATS + 1)} == {2}
    assert len(others) == 0
    drain_all()
    assert Message.objects.count() == 2 * CHATS + 1


@either_way
def test_a_redis_that_lost_what_is_stored_trusts_no_number_until_it_is_seeded(
    many: Tenant, state: Any, redis_server: RealRedis, nobody_waits: None
) -> None:
    # Given a Redis restored to a state before one more message in each chat,
    with rolled_back(state, redis_server):
        assert post_to_each(many) == {2}
        drain_all()

    # when one chat gets a message, which moves the clock, and Redis restarts again,
    assert many.message(1)["number"] == 3
    redis_server.restart()

    # then the other numbers are still not trusted, although the clock is ahead of the database.
    assert post_to_each(many) == {3, 4}
    drain_all()
    assert Message.objects.count() == 3 * CHATS + 1


def test_a_redis_that_was_a_replica_meanwhile_is_compared_again_though_it_is_the_same_process(
    many: Tenant, state: Any, nobody_waits: None
) -> None:
    # Given a Redis that another one replaced, which numbered a message in each chat without replicating it,
    before = dump(state)
    assert post_to_each(many) == {2}
    drain_all()
    put_back(state, before)
    # A master that does not exist, so that nothing is replicated.
    state.replicaof("127.0.0.1", 1)

    # when the first one is promoted again, then it gives none of these numbers.
    state.replicaof("NO", "ONE")
    assert post_to_each(many) == {3}
    drain_all()
    assert Message.objects.count() == 3 * CHATS


@either_way
def test_a_redis_that_lost_only_what_is_not_stored_goes_on_with_what_it_has(
    many: Tenant, state: Any, redis_server: RealRedis
) -> None:
    with rolled_back(state, redis_server):
        many.message(1, "lost with the log that held it")

    assert many.message(1, "kept")["number"] == 2
    drain_all()
    assert list(Message.objects.filter(number=2).values_list("body", flat=True)) == ["kept"]


@either_way
def test_redis_is_compared_with_what_a_drain_under_way_is_about_to_store(
    many: Tenant, state: Any, redis_server: RealRedis, nobody_waits: None
) -> None:
    # Given a drain that has read a message and not yet stored it, when Redis comes back without it,
    answered: list[int] = []
    with rolled_back(state, redis_server):
        read = append(many.token, Write("create", f"{many.token}/1", "", ["stored"]), {})
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


@either_way
@pytest.mark.parametrize("lose", [lambda state, keys: state.flushall(), lambda state, keys: state.delete(keys.fence)])
def test_without_a_fence_every_number_is_seeded(
    many: Tenant, state: Any, nobody_waits: None, lose: Callable[[Any, Keys], object]
) -> None:
    # (a Redis that lost its mark with everything else gets a new name)
    lose(state, Keys(partition_of(many.token)))

    assert post_to_each(many) == {2}
    drain_all()
    assert Message.objects.count() == 2 * CHATS


@either_way
def test_an_epoch_is_unlike_all_before_it(many: Tenant, state: Any) -> None:
    # Given numbers of a first epoch, in a Redis that loses only its fence,
    keys = Keys(partition_of(many.token))
    first = state.get(keys.fence).split(" ")
    told = state.hgetall(keys.numbers)

    # when the same process passes the fence again,
    state.delete(keys.fence)
    many.message(1)

    # then the epoch has a new name, later than any arrival, and only seeded numbers belong to it.
    second = state.get(keys.fence).split(" ")
    assert second[1] == first[1]
    assert int(second[0]) > int(first[0])
    numbers = state.hgetall(keys.numbers)
    assert {path for path, number in numbers.items() if number.endswith(f" {second[0]}")} == {f"{many.token}/1"}
    assert {path: number for path, number in told.items() if path != f"{many.token}/1"}.items() <= numbers.items()
