"""manage.py move_partitions: the number of state Redis servers changes, and nothing is lost."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.checks import run_checks
from django.core.management import CommandError, call_command
from rest_framework.test import APIClient

from chatsystem.writelog import moving, ownership, tasks
from chatsystem.writelog.keys import partition_of
from chatsystem.writelog.models import Partition
from chatsystem.writelog.servers import SINGLE
from messages_app.models import Message
from tests.support.harness import Tenant, drain_all, forget_redis
from tests.support.redis_servers import Server, use_url


@pytest.fixture
def servers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Server]]:
    # As in `state`: a lease ends only when a test ends it.
    monkeypatch.setattr(ownership, "LEASE", 3_600.0)
    with ExitStack() as running:
        running.callback(forget_redis)
        found = [Server(tmp_path / f"redis{number}") for number in range(2)]
        for server in found:
            running.callback(server.kill)
        yield found


def urls(*servers: Server) -> str:
    return ",".join(f"redis://127.0.0.1:{server.port}/0" for server in servers)


def tenants(api: APIClient) -> list[Tenant]:
    """Returns a tenant in each half of the partitions, with a stored and two waiting messages."""
    found: dict[bool, Tenant] = {}
    while len(found) < 2:
        tenant = Tenant.new(api, "a tenant")
        found[partition_of(tenant.token) < 32] = tenant
    for tenant in found.values():
        tenant.chat()
        tenant.message(1, "stored")
    drain_all()
    for tenant in found.values():
        tenant.message(1, "waiting")
        tenant.message(1, "with a key", **{"Idempotency-Key": "k"})
    return list(found.values())


def move(source: str) -> str:
    out = StringIO()
    call_command("move_partitions", source=source, stdout=out)
    return out.getvalue()


def check_all(found: list[Tenant]) -> None:
    """Checks that reads, numbers and receipts go on, and that everything is stored once."""
    for tenant in found:
        assert [each["body"] for each in tenant.get("/chats/1/messages")["results"]] == [
            "stored",
            "waiting",
            "with a key",
        ]
        assert tenant.message(1, "with a key", **{"Idempotency-Key": "k"})["number"] == 3
        assert tenant.message(1, "next")["number"] == 4
    drain_all()
    assert Message.objects.count() == 4 * len(found)


@pytest.mark.parametrize(("former", "later"), [((0,), (0, 1)), ((0, 1), (0,)), ((0, 1), (1, 0))])
def test_partitions_move_with_their_events_numbers_and_receipts(
    transactional_db: None,
    servers: list[Server],
    settings: Any,
    monkeypatch: pytest.MonkeyPatch,
    former: tuple[int, ...],
    later: tuple[int, ...],
) -> None:
    # Given tenants on the former servers,
    source, target = (urls(*(servers[number] for number in numbers)) for numbers in (former, later))
    use_url(source, settings)
    found = tenants(APIClient(raise_request_exception=False))

    # when REDIS_URL changes, then what lies elsewhere is refused, even if its owner has not shown itself for long,
    use_url(target, settings)
    monkeypatch.setattr(ownership, "TAKE_OVER_AFTER", 0)
    for _ in range(2):
        tasks.sweep()
    assert 503 in [tenant.api.get(f"{tenant.path}/chats/1/messages").status_code for tenant in found]
    assert [error.id for error in run_checks(databases=["default"]) if "E0" in error.id] == ["chatsystem.E007"]
    # and once the partitions are moved, reads, numbers and receipts go on,
    assert "with the new REDIS_URL" in move(source)
    check_all(found)
    assert "nothing to move" in move(source)
    # and a process that still has the former REDIS_URL answers nothing of what has moved.
    use_url(source, settings)
    assert 503 in [tenant.api.get(f"{tenant.path}/chats/1/messages").status_code for tenant in found]


@pytest.mark.parametrize("many", [1, 2])
def test_the_redis_of_make_run_is_not_forgotten_when_redis_url_is_set(
    transactional_db: None,
    state: Any,
    servers: list[Server],
    settings: Any,
    monkeypatch: pytest.MonkeyPatch,
    many: int,
) -> None:
    # Given events that wait in the Redis of `make run`,
    own, api = settings.REDIS_URL, APIClient(raise_request_exception=False)
    found = tenants(api)
    monkeypatch.setattr(ownership, "TAKE_OVER_AFTER", 0)

    # when REDIS_URL is set, then nothing starts, and no process takes over,
    use_url(urls(*servers[:many]), settings)
    assert [error.id for error in run_checks(databases=["default"]) if "E0" in error.id] == ["chatsystem.E007"]
    for _ in range(2):
        tasks.sweep()
    assert {tenant.api.get(f"{tenant.path}/chats/1/messages").status_code for tenant in found} == {503}
    # and once the partitions are moved, `make run` does not start without REDIS_URL, and those of its processes that
    # still run do not take the partitions back.
    out = StringIO()
    call_command("move_partitions", stdout=out)
    assert "Moved 64 of 64" in out.getvalue()
    use_url(own, settings)
    assert [error.id for error in run_checks(databases=["default"]) if "E0" in error.id] == ["chatsystem.E007"]
    for _ in range(2):
        tasks.sweep()
    assert {tenant.api.get(f"{tenant.path}/chats/1/messages").status_code for tenant in found} == {503}
    use_url(urls(*servers[:many]), settings)
    check_all(found)


def test_an_installation_of_an_earlier_version_starts(transactional_db: None, state: Any) -> None:
    """Its layout says that there is one Redis, and not of which kind."""
    Partition.objects.update(layout=SINGLE)

    assert not [error for error in run_checks(databases=["default"]) if "E0" in error.id]


def test_an_interrupted_move_is_repeated_and_loses_nothing(
    transactional_db: None, servers: list[Server], settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a move that ends at its second partition, and workers of the former servers that sweep meanwhile,
    source = urls(servers[0])
    use_url(source, settings)
    found = tenants(APIClient(raise_request_exception=False))
    use_url(urls(*servers), settings)
    take_over, calls = moving._take_over, []

    def die(partition: int, former: Any) -> None:
        calls.append(partition)
        if len(calls) == 2:
            raise KeyboardInterrupt
        take_over(partition, former)

    with monkeypatch.context() as patched:
        patched.setattr(moving, "_take_over", die)
        with pytest.raises(KeyboardInterrupt):
            move(source)
    use_url(source, settings)
    tasks.sweep()
    drain_all_that_may_be()
    use_url(urls(*servers), settings)

    # when it is run again, then nothing is missing.
    move(source)
    check_all(found)


def drain_all_that_may_be() -> None:
    """Drains like workers, which are refused the partitions that are being moved."""

    tasks.drain_waiting(0)


def test_a_former_url_that_is_none_is_named(transactional_db: None, state: Any) -> None:
    with pytest.raises(CommandError, match="--from is not the address of a state Redis"):
        move("http://elsewhere")
