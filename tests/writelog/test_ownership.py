"""Ownership: the database takes events from one Redis. Any other accepts nothing, and nothing of it is stored."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from django.core.checks import run_checks
from django.db import OperationalError, connection
from rest_framework.test import APIClient

from chatsystem.writelog import exceptions, ownership, redis_guards, rollback_guard, stream, tasks
from chatsystem.writelog.drain import drain
from chatsystem.writelog.keys import PARTITIONS, Keys, partition_of
from chatsystem.writelog.models import DeadEvent, Owner, Partition
from chatsystem.writelog.redis_client import client
from chatsystem.writelog.scripts import incarnation
from messages_app.models import Message
from tests.support.harness import Tenant, drain_all
from tests.support.product import eventually
from tests.support.redis_servers import Server, briefly, use

EVERY = range(PARTITIONS)
SUPERSEDED = "down: superseded: the database takes events from another Redis than REDIS_URL names"


@pytest.fixture
def ours(transactional_db: None, leader: Server) -> Tenant:
    """A tenant on the first host, whose Redis is the owner, with a chat and a stored message."""
    ours = Tenant.new(APIClient(raise_request_exception=False), "ours")
    ours.chat()
    ours.message(1, "one")
    drain_all()
    return ours


@pytest.fixture
def second(tmp_path: Path, leader: Server) -> Any:
    """The Redis of a second host on which REDIS_URL was forgotten."""
    server = Server(tmp_path / "second")
    yield server
    server.kill()


def post(ours: Tenant, body: str) -> Any:
    return ours.api.post(f"{ours.path}/chats/1/messages", {"body": body}, format="json")


def bodies(ours: Tenant) -> list[str]:
    return [message["body"] for message in ours.get("/chats/1/messages")["results"]]


def ready(ours: Tenant) -> tuple[int, str]:
    response = ours.api.get("/health/ready")
    return response.status_code, response.json()["dependencies"]["state"]


def owners() -> set[str]:
    """Returns the names of those that own partitions."""
    return set(Partition.objects.values_list("owner", flat=True))


def end_leases() -> None:
    """Ends all leases, as six seconds without a sweep do."""
    client(0).delete(*(Keys(partition).lease for partition in range(PARTITIONS)))


def give_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets another Redis take over at once, as if the owner had been gone for long."""
    monkeypatch.setattr(ownership, "TAKE_OVER_AFTER", 0)


def test_a_worker_that_still_reaches_the_old_primary_stores_nothing_of_it(
    ours: Tenant, leader: Server, replica: Server, settings: Any
) -> None:
    # Given a failover that a process missed: the old primary keeps running beside the new one,
    ours.message(1, "two")
    replica.client.replicaof("NO", "ONE")
    settings.REDIS_REPLICAS = 0
    use(replica, settings)
    assert ours.message(1, "acknowledged by the new primary")["number"] == 3
    settings.REDIS_REPLICAS = 1
    use(leader, settings)
    with briefly(settings):
        refused = post(ours, "refused by the old primary")
    assert (refused.status_code, refused.json()["errors"][0]["code"]) == (503, "outcome_unknown")

    # when a worker drains the old primary, then it is refused, with or without REDIS_REPLICAS,
    with briefly(settings), pytest.raises(exceptions.Unreplicated):
        drain([partition_of(ours.token)])
    settings.REDIS_REPLICAS = 0
    with pytest.raises(exceptions.Superseded):
        drain([partition_of(ours.token)])
    # and the acknowledged events are stored, with nothing else under their numbers.
    use(replica, settings)
    drain_all()
    assert bodies(ours) == ["one", "two", "acknowledged by the new primary"]
    assert list(Message.objects.order_by("number").values_list("body", flat=True)) == bodies(ours)
    assert not DeadEvent.objects.exists()


def test_the_old_primary_accepts_nothing_once_its_lease_is_over(
    ours: Tenant, leader: Server, replica: Server, settings: Any
) -> None:
    # Given a failover, without REDIS_REPLICAS, and web processes that still reach the old primary,
    replica.client.replicaof("NO", "ONE")
    settings.REDIS_REPLICAS = 0
    use(replica, settings)
    ours.message(1, "two")
    use(leader, settings)
    # but no worker does, so that nobody renews its lease.
    end_leases()

    # When a message is posted, then the web process asks the database and is refused,
    refused = post(ours, "three")
    assert (refused.status_code, refused["Retry-After"]) == (503, "1")
    assert client(0).xlen(Keys(partition_of(ours.token)).log) == 0
    # from then on reads are refused there too, and readiness says why.
    assert ours.api.get(f"{ours.path}/chats/1/messages").status_code == 503
    assert ours.api.get(f"{ours.path}/chats/1/messages/1").status_code == 503
    assert ready(ours) == (503, SUPERSEDED)


def test_a_second_hosts_redis_accepts_and_answers_nothing_and_says_why(
    ours: Tenant, second: Server, leader: Server, settings: Any
) -> None:
    # Given a host with its own Redis, on a database that has another owner,
    use(second, settings)
    # when its workers sweep, then it is not ready,
    tasks.sweep()
    assert ready(ours) == (503, SUPERSEDED)
    assert "chatsystem_superseded 1.0" in ours.api.get("/metrics").content.decode()
    assert [warning.id for warning in run_checks(databases=["default"]) if warning.id == "chatsystem.W006"]
    # writes and reads are refused,
    assert post(ours, "two").status_code == 503
    assert ours.api.post("/applications", {"name": "theirs"}, format="json").status_code == 503
    assert ours.api.get(f"{ours.path}/chats/1/messages/1").status_code == 503
    assert ours.api.get(f"{ours.path}/chats/1/messages").status_code == 503
    assert client(0).xlen(Keys(partition_of(ours.token)).log) == 0
    # and the owner goes on, as the only host that is ready.
    use(leader, settings)
    tasks.sweep()
    assert ready(ours)[0] == 200
    assert "chatsystem_superseded 0.0" in ours.api.get("/metrics").content.decode()
    assert ours.message(1, "two")["number"] == 2


def test_a_host_is_not_ready_before_it_answers_again(ours: Tenant, second: Server, settings: Any) -> None:
    # Given a Redis that is marked as superseded,
    use(second, settings)
    tasks.sweep()

    # when the database names it the owner, but the mark is still there,
    Partition.objects.update(owner=incarnation(0))

    # then reads are still refused, and readiness says so.
    assert ours.api.get(f"{ours.path}/chats/1/messages").status_code == 503
    assert ready(ours) == (503, SUPERSEDED)


def test_a_second_hosts_redis_is_refused_before_its_first_sweep(ours: Tenant, second: Server, settings: Any) -> None:
    use(second, settings)

    assert ready(ours) == (503, SUPERSEDED)
    assert post(ours, "two").status_code == 503


def test_the_checks_pass_over_partitions_whose_rows_are_still_missing(transactional_db: None, leader: Server) -> None:
    # `migrate` runs the checks first. Only its end adds the rows, and it may have been cut off before.
    Partition.objects.filter(pk__gte=PARTITIONS // 2).delete()

    assert not [found for found in run_checks(databases=["default"]) if not found.is_silenced()]


@pytest.mark.parametrize("shown", ["sweep", "drain"])
def test_nobody_replaces_an_owner_that_shows_itself(
    ours: Tenant, second: Server, leader: Server, settings: Any, monkeypatch: pytest.MonkeyPatch, shown: str
) -> None:
    # Given a second Redis that watches the owner and would take over after half a second,
    monkeypatch.setattr(ownership, "TAKE_OVER_AFTER", 0.5)

    def look() -> bool:
        use(second, settings)
        tasks.sweep()
        return owners() == {incarnation(0)}

    ours.message(1, "two")
    assert not look()

    # when the owner shows itself, then the watch starts anew,
    use(leader, settings)
    tasks.sweep() if shown == "sweep" else drain_all()
    time.sleep(0.6)
    assert not look()
    # and only after half a second without a sign of it the second one takes over,
    eventually(look)
    assert ready(ours)[0] == 200
    # with the number after the stored ones.
    drained = Message.objects.count()
    assert post(ours, "next").json()["number"] == drained + 1


def test_a_gap_between_two_observations_restarts_the_watch(
    ours: Tenant, second: Server, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the database was down, nobody could confirm the owner."""
    monkeypatch.setattr(ownership, "TAKE_OVER_AFTER", 0.2)
    monkeypatch.setattr(ownership, "GAP", 0.1)
    use(second, settings)

    for _ in range(2):
        tasks.sweep()
        time.sleep(0.3)

    assert ready(ours) == (503, SUPERSEDED)


def test_a_take_over_that_the_database_does_not_commit_lets_no_fence_be_passed(
    ours: Tenant, second: Server, leader: Server, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a second Redis that is about to take over,
    give_up(monkeypatch)
    use(second, settings)

    def lost() -> None:
        connection.rollback()
        raise OperationalError(2013, "lost")

    # when the commit that names it fails,
    with monkeypatch.context() as patched:
        patched.setattr(connection, "_commit", lost)
        tasks.sweep()

    # then it has not passed the fence and accepts nothing,
    assert incarnation(0) not in {each.passed_by for each in redis_guards.guards_of(EVERY).values()}
    monkeypatch.setattr(ownership, "TAKE_OVER_AFTER", 60)
    assert post(ours, "two").status_code == 503
    # and the owner is still the owner.
    use(leader, settings)
    assert ours.message(1, "two")["number"] == 2
    drain_all()
    assert bodies(ours) == ["one", "two"]


def test_an_owner_that_comes_back_gives_none_of_the_numbers_that_were_given_meanwhile(
    ours: Tenant, second: Server, leader: Server, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given an owner that was replaced after an outage, and three messages on the Redis that replaced it,
    give_up(monkeypatch)
    use(second, settings)
    tasks.sweep()
    for number in (2, 3, 4):
        assert ours.message(1, f"by the second, {number}")["number"] == number
    drain_all()

    # when that one fails in turn, then the first one goes on after these messages.
    use(leader, settings)
    end_leases()
    assert ours.message(1, "by the first again")["number"] == 5
    drain_all()
    assert bodies(ours) == ["one", *(f"by the second, {number}" for number in (2, 3, 4)), "by the first again"]
    assert not DeadEvent.objects.exists()


def test_an_owner_that_is_back_with_a_later_clock_is_not_trusted_either(
    ours: Tenant, second: Server, leader: Server, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a Redis that took over, while the owner's clock is far ahead of the stored events,
    give_up(monkeypatch)
    use(second, settings)
    assert ours.message(1, "two")["number"] == 2
    drain_all()
    use(leader, settings)
    end_leases()
    client(0).incrby(Keys(partition_of(ours.token)).clock, 3_600_000_000)

    # when the owner is back, then its numbers are compared nevertheless.
    assert ours.message(1, "three")["number"] == 3


def test_writes_go_on_without_a_sweep_and_without_the_database(ours: Tenant) -> None:
    # Given an owner that no worker has confirmed lately, and a database that is down,
    end_leases()

    def away(execute: Callable[..., Any], sql: str, *args: Any) -> Any:
        raise OperationalError(2002, "away")

    # when a message is posted, then it is accepted: nobody can take over while the database is down.
    with connection.execute_wrapper(away):
        assert post(ours, "two").status_code == 201
        # The next messages do not ask the database again.
        assert client(0).pttl(Keys(partition_of(ours.token)).lease) > 0
    drain_all()
    assert bodies(ours) == ["one", "two"]


def test_a_sweep_renews_the_leases_while_the_database_is_down(ours: Tenant) -> None:
    # Given leases that nobody has renewed lately, a partition that is halted, and a database that is down,
    rollback_guard.halt(0)
    end_leases()

    def away(execute: Callable[..., Any], sql: str, *args: Any) -> Any:
        raise OperationalError(2002, "away")

    # when a sweep runs, then it fails visibly, and every partition has a lease: writes need not wait for one.
    with connection.execute_wrapper(away), pytest.raises(OperationalError):
        tasks.sweep()
    assert {each.lease for each in redis_guards.guards_of(EVERY).values()} == {incarnation(0)}
    # And the partition stays halted until the database says that it may resume.
    assert rollback_guard.halted(EVERY) == [0]
    tasks.sweep()
    assert rollback_guard.halted(EVERY) == []


def test_a_web_process_renews_the_lease_when_the_workers_are_silent(ours: Tenant) -> None:
    before = Owner.objects.get(redis=incarnation(0)).confirmations
    end_leases()

    ours.message(1, "two")
    ours.message(1, "three")

    assert Owner.objects.get(redis=incarnation(0)).confirmations == before + 1


def test_a_drain_that_took_long_does_not_shorten_a_lease_that_was_renewed_meanwhile(
    ours: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a drain that read the log a minute before a sweep renewed the lease,
    ours.message(1, "two")
    end_leases()
    tasks.sweep()
    partition, read = partition_of(ours.token), stream.read
    end = client(0).pexpiretime(Keys(partition).lease)

    def read_earlier(counts: Any) -> Any:
        return {p: replace(batch, at=batch.at - 60_000_000) for p, batch in read(counts).items()}

    # when the drain commits, then the lease ends when the sweep said.
    monkeypatch.setattr(stream, "read", read_earlier)
    assert drain([partition]) == 1
    assert client(0).pexpiretime(Keys(partition).lease) == end


def test_a_lease_does_not_grow_when_the_clock_is_set_back(ours: Tenant) -> None:
    lease = Keys(partition_of(ours.token)).lease
    client(0).pexpire(lease, 36_000_000)

    tasks.sweep()

    assert client(0).pttl(lease) <= ownership.LEASE * 1000


def test_the_first_sweep_claims_what_nobody_owns_and_lets_every_partition_pass(
    transactional_db: None, state: Any
) -> None:
    """The state after an upgrade and on a new database."""
    assert owners() == {""}

    tasks.sweep()

    mine = incarnation(0)
    assert owners() == {mine}
    assert {each.passed_by for each in redis_guards.guards_of(EVERY).values()} == {mine}
    assert {each.lease for each in redis_guards.guards_of(EVERY).values()} == {mine}


@pytest.mark.parametrize("change", ["a new database", "a restart of Redis"])
def test_a_write_is_accepted_though_a_sweep_claims_the_partitions_at_the_same_time(
    transactional_db: None, leader: Server, change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a Redis that has to become the owner, and a sweep that is faster than a request which has the same to do,
    api = APIClient(raise_request_exception=False)
    if change == "a restart of Redis":
        tasks.sweep()
        leader.restart()
    drop, swept = redis_guards.drop_fences, []

    def sweep_first(partitions: Any) -> None:
        drop(partitions)
        if not swept:
            swept.append(True)
            tasks.sweep()

    # when the request continues, then it is accepted.
    monkeypatch.setattr(redis_guards, "drop_fences", sweep_first)
    assert api.post("/applications", {"name": "ours"}, format="json").status_code == 201
    assert swept
    assert owners() == {incarnation(0)}


def test_an_upgrade_keeps_the_numbers_of_a_redis_that_had_passed_already(ours: Tenant) -> None:
    # Given rows without an owner, as the previous version left them,
    Partition.objects.update(owner="")
    epochs = [client(0).get(Keys(partition).fence) for partition in range(PARTITIONS)]

    # when the first sweep claims them, then no number is seeded anew.
    tasks.sweep()
    assert [client(0).get(Keys(partition).fence) for partition in range(PARTITIONS)] == epochs
    assert ours.message(1, "two")["number"] == 2
    drain_all()


def test_reinstating_a_superseded_redis_does_not_resume_a_database_that_is_behind(
    ours: Tenant, second: Server, leader: Server, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given an owner that was superseded and whose database was restored to an older state meanwhile,
    partition = partition_of(ours.token)
    give_up(monkeypatch)
    use(second, settings)
    tasks.sweep()
    use(leader, settings)
    monkeypatch.setattr(ownership, "TAKE_OVER_AFTER", 60)
    stored = Partition.objects.get(pk=partition).drained_through
    Partition.objects.filter(pk=partition).update(drained_through=stored - 1)
    tasks.sweep()
    assert redis_guards.superseded(EVERY)
    assert rollback_guard.halted(EVERY) == [partition]

    # when it is the owner again, then the partition is still halted,
    give_up(monkeypatch)
    tasks.sweep()
    assert not redis_guards.superseded(EVERY)
    assert rollback_guard.halted(EVERY) == [partition]
    assert post(ours, "two").status_code == 503
    # and resumes once the database has been brought forward.
    Partition.objects.filter(pk=partition).update(drained_through=stored)
    tasks.sweep()
    tasks.sweep()
    assert post(ours, "two").json()["number"] == 2


def test_a_database_that_is_brought_forward_does_not_resume_a_superseded_redis(
    ours: Tenant, second: Server, settings: Any
) -> None:
    use(second, settings)
    partition = partition_of(ours.token)
    tasks.sweep()
    rollback_guard.halt(partition)

    rollback_guard.resume(partition)

    assert post(ours, "two").status_code == 503
    assert redis_guards.superseded(EVERY)


def test_an_owner_without_replicas_lets_another_redis_take_over(
    ours: Tenant, leader: Server, replica: Server, second: Server, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An old primary accepts nothing. If its sweeps went on confirming it, no other Redis could take over."""
    # Given an owner that has lost its replica,
    tasks.sweep()
    replica.client.replicaof("NO", "ONE")
    confirmations = Owner.objects.get(redis=incarnation(0)).confirmations

    # when its workers sweep, then they do not confirm it, and readiness says that writes are not accepted.
    with briefly(settings):
        tasks.sweep()
        assert Owner.objects.get(redis=incarnation(0)).confirmations == confirmations
        assert ready(ours) == (503, "down: Unreplicated")
