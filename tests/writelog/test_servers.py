"""More than one state Redis: several servers, a Sentinel's service, a Cluster."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from rest_framework.test import APIClient

from chatsystem.monitoring import health
from chatsystem.writelog import live_stats, ownership, redis_client, redis_guards, rollback_guard, stats, tasks
from chatsystem.writelog.keys import PARTITIONS, SUPERSEDED, Keys, partition_of
from messages_app.models import Message
from tests.support import environment
from tests.support.harness import Tenant, drain_all, forget_redis, in_threads
from tests.support.live import LiveServer
from tests.support.product import BASE_DIR, PATIENCE, eventually
from tests.support.redis_process import connect
from tests.support.redis_servers import Cluster, Sentinels, Server, use_url


@pytest.fixture
def running(monkeypatch: pytest.MonkeyPatch) -> Iterator[ExitStack]:
    # As in `state`: a lease ends only when a test ends it.
    monkeypatch.setattr(ownership, "LEASE", 3_600.0)
    with ExitStack() as stack:
        stack.callback(forget_redis)
        yield stack


@pytest.fixture
def three(running: ExitStack, tmp_path: Path, settings: Any) -> list[Server]:
    """Three servers that share the partitions."""
    servers = [Server(tmp_path / f"redis{number}") for number in range(3)]
    for server in servers:
        running.callback(server.kill)
    use_url(",".join(f"redis://127.0.0.1:{server.port}/0" for server in servers), settings)
    return servers


@pytest.fixture
def none_is_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """No server is left out because it was slow to answer. One that is away refuses at once."""
    monkeypatch.setattr(redis_client, "REACHABLE_WITHIN", PATIENCE)


@pytest.fixture
def watched(running: ExitStack, tmp_path: Path, settings: Any) -> tuple[Server, Server, Sentinels]:
    """A primary and its replica, and three sentinels that watch them."""
    primary = Server(tmp_path / "primary")
    running.callback(primary.kill)
    replica = Server(tmp_path / "replica", primary)
    running.callback(replica.kill)
    eventually(lambda: replica.client.info("replication")["master_link_status"] == "up")
    sentinels = Sentinels(tmp_path / "sentinels", primary)
    running.callback(sentinels.kill)
    use_url(sentinels.url(), settings)
    return primary, replica, sentinels


@pytest.fixture
def cluster(running: ExitStack, tmp_path: Path, settings: Any, request: pytest.FixtureRequest) -> Cluster:
    cluster = Cluster(tmp_path / "cluster", replicas=getattr(request, "param", 0))
    running.callback(cluster.kill)
    use_url(cluster.url(), settings)
    return cluster


def tenant_on(api: APIClient, is_wanted: Callable[[int], bool]) -> Tenant:
    """Creates applications until one lies in a wanted partition, and returns it, with a chat."""
    while True:
        tenant = Tenant.new(api, "a tenant")
        if is_wanted(partition_of(tenant.token)):
            tenant.chat()
            return tenant


def post(tenant: Tenant, body: str) -> Any:
    return tenant.api.post(f"{tenant.path}/chats/1/messages", {"body": body}, format="json")


def posts_again(tenant: Tenant, acknowledged: list[str]) -> None:
    """Posts until a message is acknowledged. Each refusal must be a 503."""

    def post_one() -> bool:
        body = f"message {len(acknowledged) + 1}"
        answer = post(tenant, body)
        assert answer.status_code in (201, 503), answer.content
        if answer.status_code == 201:
            acknowledged.append(body)
        return bool(answer.status_code == 201)

    eventually(post_one)


def stored(tenant: Tenant) -> list[str]:
    messages = Message.objects.filter(chat__application__token=tenant.token)
    return list(messages.order_by("number").values_list("body", flat=True))


def ready(api: APIClient) -> tuple[int, str]:
    response = api.get("/health/ready")
    return response.status_code, response.json()["dependencies"]["state"]


def test_several_servers_share_the_partitions_in_the_given_order(transactional_db: None, three: list[Server]) -> None:
    # When applications write to all servers,
    api = APIClient()
    tenants = [tenant_on(api, lambda partition, n=n: partition * 3 // PARTITIONS == n) for n in range(3)]  # type: ignore[misc]
    for tenant in tenants:
        tenant.message(1, "one")

    # then each server holds the keys of its part alone,
    for number, server in enumerate(three):
        names = server.client.keys("{*")
        assert {int(name[1 : name.index("}")]) * 3 // PARTITIONS for name in names} == {number}
    # everything is stored, and the list of all applications is in order.
    drain_all()
    assert [stored(tenant) for tenant in tenants] == [["one"]] * 3
    listed = [each["token"] for each in api.get("/applications").json()["results"]]
    assert [token for token in listed if token in {tenant.token for tenant in tenants}] == [
        tenant.token for tenant in tenants
    ]


def test_while_one_of_several_servers_is_away_only_its_partitions_are_refused(
    transactional_db: None, three: list[Server], none_is_late: None
) -> None:
    # Given a tenant on each of two servers,
    api = APIClient(raise_request_exception=False)
    theirs = tenant_on(api, lambda partition: partition < PARTITIONS // 3)
    ours = tenant_on(api, lambda partition: partition > PARTITIONS * 2 // 3)
    theirs.message(1, "one")
    drain_all()
    tasks.sweep()

    # when the first server is killed,
    three[0].kill()

    # then its tenant gets 503, ours gets 201 and is stored, and readiness says which server is away.
    refused = post(theirs, "two")
    assert (refused.status_code, refused["Retry-After"]) == (503, "1")
    assert ours.message(1, "one")["number"] == 1
    tasks.sweep()
    tasks.drain_waiting(partition_of(ours.token))
    assert stored(ours) == ["one"]
    assert ready(api) == (
        200,
        "degraded: state Redis 1 of 3 (LogUnavailable (ConnectionError)) is down: 22 of 64 partitions accept no write",
    )
    # and when all are killed, nothing is accepted.
    three[1].kill()
    three[2].kill()
    assert ready(api)[0] == 503


def test_readiness_tells_a_server_that_is_away_and_superseded_partitions_of_the_others(
    transactional_db: None, three: list[Server], none_is_late: None
) -> None:
    # Given a partition of the second server that another Redis owns, and a first server that was killed,
    api = APIClient(raise_request_exception=False)
    tasks.sweep()
    _, second, third = redis_client.groups()
    redis_guards.supersede(second[:1])
    three[0].kill()
    # when readiness is asked, then it tells both.
    away = (
        "degraded: state Redis 1 of 3 (LogUnavailable (ConnectionError)) is down: 22 of 64 partitions accept no write"
    )
    assert ready(api) == (200, f"{away}; {ownership.REASON} for 1 of 64 partitions")
    # And when all others are superseded, nothing is accepted.
    redis_guards.supersede(second)
    redis_guards.supersede(third)
    assert ready(api) == (503, f"down: {ownership.REASON}")


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_silent_server_at_any_place_of_the_list_hides_no_other(
    transactional_db: None, three: list[Server], place: int, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As in the product.
    monkeypatch.setattr(health, "PATIENCE", 2.0)
    settings.REDIS_TIMEOUT = 3
    forget_redis()
    # Given a halted partition on another server than the one that will be silent,
    api = APIClient(raise_request_exception=False)
    groups = redis_client.groups()
    rollback_guard.halt(groups[place - 1][0])
    expected = {
        "state": f"degraded: state Redis {place + 1} of 3 (TimeoutError) is down: "
        f"{len(groups[place])} of {PARTITIONS} partitions accept no write",
        "database": "degraded: older than it was: 1 partitions are halted",
        "search": "ok",
        "workers": "ok",
        "live": "ok",
    }

    def readiness_says_so() -> bool:
        stats.beat_heart()
        live_stats.report("a process", live_stats.Streams(0, 0), {})
        return bool(api.get("/health/ready").json()["dependencies"] == expected)

    # when a server stops answering and keeps its connections open, then readiness tells that and the rest as before.
    with three[place].stopped():
        eventually(readiness_says_so)


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_silent_server_delays_the_sweep_of_no_other(
    transactional_db: None, three: list[Server], settings: Any, place: int
) -> None:
    # Given leases that have ended, and a server that stops answering and keeps its connections open,
    tasks.sweep()
    settings.REDIS_TIMEOUT = 2 * PATIENCE
    forget_redis()
    leases = [Keys(partition).lease for partition in range(PARTITIONS)]
    others = [server for server in three if server is not three[place]]
    for server in three:
        server.client.delete(*leases)

    # when a sweep runs, then the partitions of all other servers have leases before that one answers.
    with three[place].stopped(), ThreadPoolExecutor(1) as pool:
        pool.submit(in_threads, lambda _: tasks.sweep(), [0])
        try:
            eventually(lambda: sum(server.client.exists(*leases) for server in others) >= 2 * PARTITIONS // 3)
        finally:
            three[place].process.send_signal(signal.SIGCONT)
    # and its own once it does.
    eventually(lambda: sum(server.client.exists(*leases) for server in three) == PARTITIONS)


def test_after_a_failover_by_sentinel_writes_go_on_and_nothing_is_lost(
    transactional_db: None, watched: tuple[Server, Server, Sentinels], settings: Any
) -> None:
    # Given a primary with a replica under three sentinels, and acknowledged writes,
    primary, _, _ = watched
    api = APIClient(raise_request_exception=False)
    ours = Tenant.new(api, "ours")
    ours.chat()
    acknowledged: list[str] = []
    for _ in range(5):
        posts_again(ours, acknowledged)
    settings.REDIS_REPLICAS = 1
    for _ in range(5):
        posts_again(ours, acknowledged)
    settings.REDIS_REPLICAS = 0

    # when the primary is killed, then writes go on at the replica, with the next number,
    primary.kill()
    posts_again(ours, acknowledged)
    # and all that was acknowledged is stored under its number.
    drain_all()
    assert stored(ours) == acknowledged
    assert ready(api)[0] == 200


@pytest.fixture
def old_primary(transactional_db: None, watched: tuple[Server, Server, Sentinels]) -> tuple[Tenant, Server, Server]:
    """A tenant, an old primary to which our connections lead, and the new one. Only its sentinels know of it."""
    primary, replica, sentinels = watched
    ours = Tenant.new(APIClient(raise_request_exception=False), "ours")
    ours.chat()
    ours.message(1, "one")
    eventually(lambda: replica.client.xlen(Keys(partition_of(ours.token)).log) == 3)
    # As if the network between them was cut: nobody tells the old primary that it is one.
    for port in sentinels.ports:
        client = connect(port=port, decode_responses=True)
        client.sentinel_remove(sentinels.SERVICE)
        client.sentinel_monitor(sentinels.SERVICE, replica.address, replica.port, 2)
    replica.client.replicaof("NO", "ONE")
    return ours, primary, replica


def test_workers_leave_an_old_primary_that_still_answers(old_primary: tuple[Tenant, Server, Server]) -> None:
    # Given a failover, which another host has followed, and an old primary that answers this one,
    ours, _, promoted = old_primary
    elsewhere("ownership.confirm(range(64))", promoted)
    assert is_connected_to_old(promoted)

    # when a worker's sweep is refused, then its next drain stores what waits at the new primary.
    tasks.sweep()
    assert not is_connected_to_old(promoted)
    tasks.drain_waiting(partition_of(ours.token))
    assert stored(ours) == ["one"]


def test_a_drain_leaves_an_old_primary_once_that_is_marked(old_primary: tuple[Tenant, Server, Server]) -> None:
    # Given an old primary that is not marked yet, so that reads still rely on it,
    ours, old, promoted = old_primary
    elsewhere("ownership.confirm(range(64))", promoted)

    # when a drain is refused, then its process stays, so that its sweep can mark the old primary,
    tasks.drain_waiting(partition_of(ours.token))
    assert is_connected_to_old(promoted)
    # and once another worker has marked it, the process leaves.
    mark(old)
    tasks.drain_waiting(partition_of(ours.token))
    assert not is_connected_to_old(promoted)


def test_reads_leave_an_old_primary_that_is_marked(old_primary: tuple[Tenant, Server, Server]) -> None:
    # Given an old primary whose workers have marked it,
    ours, old, promoted = old_primary
    elsewhere("ownership.confirm(range(64))", promoted)
    mark(old)

    # when a message is read from it, then that is refused, and the next read is answered by the new one.
    path = f"{ours.path}/chats/1/messages/1"
    assert ours.api.get(path).status_code == 503
    assert ours.api.get(path).json()["body"] == "one"


def mark(old: Server) -> None:
    """Does what a sweep does on a Redis that another one has replaced."""
    for partition in range(PARTITIONS):
        old.client.hset(Keys(partition).pending, SUPERSEDED, "1")


def is_connected_to_old(promoted: Server) -> bool:
    with redis_client.pooled_connection(0) as connection:
        return bool(connection.port != promoted.port)


def elsewhere(statement: str, server: Server) -> None:
    """Runs a statement in a process of another host, whose REDIS_URL names the server."""
    code = f"import django; django.setup()\nfrom chatsystem.writelog import ownership\n{statement}"
    environ = os.environ | {
        "DJANGO_SETTINGS_MODULE": "chatsystem.settings",
        "DATABASE_URL": environment.database_url(),
        "REDIS_URL": f"redis://{server.address}:{server.port}/0",
    }
    subprocess.run([sys.executable, "-c", code], cwd=BASE_DIR, env=environ, check=True)


def test_a_cluster_takes_the_writes_of_all_partitions(transactional_db: None, cluster: Cluster) -> None:
    api = APIClient(raise_request_exception=False)
    tenants: dict[int, Tenant] = {}
    while len(tenants) < PARTITIONS:
        tenant = Tenant.new(api, "a tenant")
        tenants[partition_of(tenant.token)] = tenant
    for tenant in tenants.values():
        tenant.chat()
        assert post(tenant, "one").status_code == 201

    assert drain_all() >= 3 * PARTITIONS
    assert [stored(tenant) for tenant in tenants.values()] == [["one"]] * PARTITIONS
    assert all(node.client.dbsize() > 0 for node in cluster.primaries)
    assert ready(api)[0] == 200


def test_a_slot_that_moves_between_two_writes_loses_nothing_and_numbers_go_on(
    transactional_db: None, cluster: Cluster
) -> None:
    # Given an application with a stored and a waiting message,
    api = APIClient(raise_request_exception=False)
    ours = Tenant.new(api, "ours")
    ours.chat()
    acknowledged: list[str] = []
    posts_again(ours, acknowledged)
    drain_all()
    posts_again(ours, acknowledged)

    # when its slot moves to another node,
    key = Keys(partition_of(ours.token)).log
    source = cluster.primary_of(key)
    cluster.move_slot(key, next(node for node in cluster.primaries if node is not source))

    # then the next message has the next number, and all of them are read and stored.
    posts_again(ours, acknowledged)
    assert [message["body"] for message in ours.get("/chats/1/messages")["results"]] == acknowledged
    drain_all()
    assert stored(ours) == acknowledged


@pytest.mark.nodes
def test_one_live_process_shows_the_events_of_all_nodes_of_a_cluster_and_of_a_slot_that_moves(
    transactional_db: None, cluster: Cluster, settings: Any, tmp_path: Path
) -> None:
    # Given a stream of an application on each node,
    api = APIClient(raise_request_exception=False)
    tenants: dict[int, Tenant] = {}
    while len(tenants) < 3:
        tenant = Tenant.new(api, "a tenant")
        tenants[cluster.primary_of(Keys(partition_of(tenant.token)).log).port] = tenant
    # Neither works on a Cluster, and the live process asks neither.
    others = dict.fromkeys(("CACHE_URL", "CELERY_BROKER_URL"), settings.CACHES["default"]["LOCATION"])
    live = LiveServer(tmp_path / "live.log", REDIS_URL=settings.REDIS_URL, **others)
    try:
        streams = {port: live.open(f"{tenant.path}/events").begun() for port, tenant in tenants.items()}

        # when each of them gets a chat, then its stream shows that.
        for port, tenant in tenants.items():
            tenant.chat(f"on {port}")
            assert streams[port].until(f"on {port}") == [f"on {port}"]

        # And when the slot of one moves to another node, then its stream goes on.
        port, ours = next(iter(tenants.items()))
        key = Keys(partition_of(ours.token)).log
        cluster.move_slot(key, next(node for node in cluster.primaries if node.port != port))
        acknowledged: list[str] = []
        posts_again(ours, acknowledged)
        assert streams[port].until(acknowledged[-1]) == acknowledged
    finally:
        live.stop()


@pytest.mark.parametrize("cluster", [1], indirect=True)
def test_a_cluster_that_promotes_a_replica_loses_nothing(
    transactional_db: None, cluster: Cluster, settings: Any
) -> None:
    # Given a process that has asked the Cluster before and is idle now,
    api = APIClient(raise_request_exception=False)
    ours = Tenant.new(api, "ours")
    ours.chat()
    settings.REDIS_REPLICAS = 1
    acknowledged: list[str] = []
    for _ in range(5):
        posts_again(ours, acknowledged)
    settings.REDIS_REPLICAS = 0

    # when the node of its application is killed and replaced by its replica meanwhile,
    node = cluster.primary_of(Keys(partition_of(ours.token)).log)
    node.kill()
    others = [each for each in cluster.nodes if each is not node]
    eventually(lambda: sum(each.client.info("replication")["role"] == "master" for each in others) == 3)

    # then its next request succeeds, and nothing acknowledged is missing.
    posts_again(ours, acknowledged)
    drain_all()
    assert stored(ours) == acknowledged


def test_while_a_node_of_a_cluster_is_away_only_its_partitions_are_refused(
    transactional_db: None, cluster: Cluster, none_is_late: None
) -> None:
    # Given a tenant on a node that is killed, and ours on another one,
    api = APIClient(raise_request_exception=False)
    down = cluster.primaries[1]
    theirs = tenant_on(api, lambda partition: cluster.primary_of(Keys(partition).log) is down)
    ours = tenant_on(api, lambda partition: cluster.primary_of(Keys(partition).log) is not down)
    tasks.sweep()
    down.kill()

    # when both write, then ours is accepted, and theirs is 503,
    acknowledged: list[str] = []
    posts_again(ours, acknowledged)
    assert post(theirs, "one").status_code == 503

    # and readiness is degraded.
    def is_degraded() -> bool:
        status, state = ready(api)
        return status == 200 and "partitions accept no write" in state

    eventually(is_degraded)
