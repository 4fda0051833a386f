"""The rows of the state Redis: Sentinel, a Cluster, several servers, two hosts."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

from tests.scale.rows import Row, Run, Stage, measure
from tests.support.product import Product
from tests.support.redis_servers import Cluster, Sentinels, Server

#: Seconds for which a server is stopped: longer than a failover takes.
PAUSE = 20.0
#: Seconds for which a server that has no replica is away.
AWAY = 4.0
#: Lets a server without a password answer others than its own host.
OPEN = ["--protected-mode", "no"]


def _host(stage: Stage, state: str, replicas: int) -> Product:
    """Starts a host whose cache and broker are a Redis of their own."""
    other = Server(stage.folder / "cache and broker")
    stage.callback(other.kill)
    return stage.host(
        "host",
        REDIS_URL=state,
        REDIS_REPLICAS=str(replicas),
        CACHE_URL=f"redis://127.0.0.1:{other.port}/1",
        CELERY_BROKER_URL=f"redis://127.0.0.1:{other.port}/2",
    )


def _sentinel(fault: str, strike: Callable[[Server], None], seconds: float) -> Row:
    with Stage() as stage:
        servers = [Server(stage.folder / "primary")]
        servers += [Server(stage.folder / f"replica{number}", servers[0]) for number in range(2)]
        for server in servers:
            stage.callback(server.kill)
        sentinels = Sentinels(stage.folder / "sentinels", servers[0], replicas=2, down_after=1_000)
        stage.callback(sentinels.kill)
        # Both may be promoted, but one is enough to go on: Sentinel promotes the one that has more.
        host = _host(stage, sentinels.url(), replicas=1)
        return measure(stage, "Sentinel, REDIS_REPLICAS=1", fault, [host], partial(strike, servers[0]), seconds)


def sentinel_primary_killed(seconds: float) -> Row:
    return _sentinel("primary killed", Server.kill, seconds)


def sentinel_primary_paused(seconds: float) -> Row:
    return _sentinel(f"primary stopped for {PAUSE:.0f} s", _pause, seconds)


def sentinel_primary_cut_off(seconds: float) -> Row:
    return _sentinel_apart("primary cut off from all", seconds)


def sentinel_primary_cut_off_from_replicas(seconds: float) -> Row:
    return _sentinel_apart("primary cut off, but not from the host", seconds, host_reaches_it=True)


def _sentinel_apart(fault: str, seconds: float, host_reaches_it: bool = False) -> Row:
    """The primary is on one host, its replicas and the sentinels on another, and the product on this machine."""
    with Stage() as stage:
        network = stage.network()
        one, other = network.add(), network.add()
        servers = [Server(stage.folder / "primary", options=OPEN, host=one)]
        servers += [
            Server(stage.folder / f"replica{number}", servers[0], options=OPEN, host=other) for number in range(2)
        ]
        for server in servers:
            stage.callback(server.kill)
        sentinels = Sentinels(stage.folder / "sentinels", servers[0], replicas=2, host=other, down_after=1_000)
        stage.callback(sentinels.kill)
        host = _host(stage, sentinels.url(), replicas=1)

        def strike() -> None:
            with network.cut(one, *([other] if host_reaches_it else [])):
                time.sleep(PAUSE)

        name = f"{fault}, packets dropped for {PAUSE:.0f} s"
        return measure(stage, "Sentinel, REDIS_REPLICAS=1", name, [host], strike, seconds)


def cluster_primary_killed(seconds: float) -> Row:
    def strike(cluster: Cluster) -> None:
        cluster.primaries[1].kill()
        time.sleep(AWAY)
        # The promoted node needs a replica before it acknowledges anything.
        cluster.primaries[1].start()

    return _cluster(f"primary killed, back after {AWAY:.0f} s", strike, seconds)


def cluster_primary_paused(seconds: float) -> Row:
    def strike(cluster: Cluster) -> str:
        _pause(cluster.primaries[1])
        return "the promoted node has no replica, which REDIS_REPLICAS asks for, before the stopped one goes on"

    return _cluster(f"primary stopped for {PAUSE:.0f} s", strike, seconds)


def cluster_resharded(seconds: float) -> Row:
    def strike(cluster: Cluster) -> None:
        # A third of the partitions, to the node of the others.
        for partition in range(64):
            key = f"{{{partition}}}:log"
            if cluster.primary_of(key) is cluster.primaries[0]:
                cluster.move_slot(key, cluster.primaries[2])

    return _cluster("slots of a third of the partitions moved", strike, seconds)


def _cluster(fault: str, strike: Callable[[Cluster], str | None], seconds: float) -> Row:
    with Stage() as stage:
        cluster = Cluster(stage.folder / "cluster", replicas=1, node_timeout=1_500)
        stage.callback(cluster.kill)
        host = _host(stage, cluster.url(), replicas=1)
        return measure(stage, "Cluster, REDIS_REPLICAS=1", fault, [host], partial(strike, cluster), seconds)


def several_one_killed(seconds: float) -> Row:
    with Stage() as stage:
        servers = [Server(stage.folder / f"redis{number}") for number in range(3)]
        for server in servers:
            stage.callback(server.kill)
        host = _host(stage, ",".join(f"redis://127.0.0.1:{server.port}/0" for server in servers), replicas=0)

        def strike() -> None:
            servers[0].kill()
            time.sleep(AWAY)
            servers[0].start()

        return measure(stage, "three servers", f"one killed, back after {AWAY:.0f} s", [host], strike, seconds)


def _pause(server: Server) -> None:
    with server.stopped():
        time.sleep(PAUSE)


ROWS: dict[str, Run] = {
    "sentinel, primary killed": sentinel_primary_killed,
    "sentinel, primary paused": sentinel_primary_paused,
    "sentinel, primary cut off": sentinel_primary_cut_off,
    "sentinel, primary cut off from replicas": sentinel_primary_cut_off_from_replicas,
    "cluster, primary killed": cluster_primary_killed,
    "cluster, primary paused": cluster_primary_paused,
    "cluster, resharded": cluster_resharded,
    "several, one killed": several_one_killed,
}
