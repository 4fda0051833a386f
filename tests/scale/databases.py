"""The rows of databases: Galera, and a MySQL primary with a replica."""

from __future__ import annotations

import re
import textwrap
import time
from collections.abc import Sequence
from pathlib import Path

from tests.scale.rows import Row, Run, Stage, measure
from tests.support.network import LOCAL, Host
from tests.support.product import BASE_DIR, Product, eventually
from tests.support.services.database_server import PASSWORD, USER
from tests.support.services.elasticsearch import Node as Elasticsearch
from tests.support.services.galera import Galera
from tests.support.services.haproxy import HAProxy
from tests.support.services.mysql import MySQL
from tests.support.services.redis import Redis

#: Seconds that a fault lasts: longer than a statement waits for an answer.
LASTS = 8.0
#: Seconds for which a node's packets are dropped: longer than the others take to go on without it.
CUT_OFF = 20.0
#: Seconds after which the proxy cuts an idle connection, usually and as a fault.
IDLE, SHORT = 60, 2

GAVE_UP = "a node gave up after the pause, and an operator did what docs/runbook.md says"

PAGE = BASE_DIR / "docs/howto/mysql-failover.md"
#: The page's SQL blocks.
ON_PRIMARY, ON_REPLICA, HAS_ALL, PROMOTE = range(4)


def _galera(stage: Stage, hosts: Sequence[Host] = (LOCAL, LOCAL, LOCAL)) -> Galera:
    cluster = Galera(stage.folder / "galera", hosts)
    stage.callback(cluster.kill)
    cluster.start()
    cluster.nodes[0].new_database("chat")
    return cluster


def _behind_haproxy(stage: Stage, cluster: Galera, idle: int) -> Product:
    proxy = HAProxy(stage.folder, [f"{node.host.address}:{node.port}" for node in cluster.nodes], idle)
    stage.callback(proxy.kill)
    return stage.host("host", DATABASE_URL=cluster.nodes[0].url("chat", port=proxy.port))


def galera_writer_killed(seconds: float) -> Row:
    with Stage() as stage:
        cluster = _galera(stage)
        host = _behind_haproxy(stage, cluster, IDLE)

        def strike() -> None:
            cluster.nodes[0].kill()
            time.sleep(LASTS)
            cluster.rejoin(cluster.nodes[0])

        return measure(stage, "Galera, one writer behind HAProxy", "writer killed", [host], strike, seconds)


def galera_idle_cuts(seconds: float) -> Row:
    with Stage() as stage:
        host = _behind_haproxy(stage, _galera(stage), SHORT)
        name = f"idle connections cut after {SHORT} s"
        return measure(stage, "Galera, one writer behind HAProxy", name, [host], lambda: None, seconds)


def galera_lag(seconds: float) -> Row:
    with Stage() as stage:
        cluster = _galera(stage)
        hosts = _two_hosts(stage, cluster)

        def strike() -> None:
            with cluster.nodes[1].lagging():
                time.sleep(LASTS)

        row = measure(stage, "Galera, two writers", f"one node lags {LASTS:.0f} s", hosts, strike, seconds)
        for host in hosts:
            log = (host.data_dir / "logs/worker.log").read_text()
            assert "halted" not in log, "a partition was halted"
        return row


def galera_two_writers_killed(seconds: float) -> Row:
    with Stage() as stage:
        cluster = _galera(stage)
        hosts = _two_hosts(stage, cluster)

        def strike() -> None:
            cluster.nodes[1].kill()
            time.sleep(LASTS)
            cluster.rejoin(cluster.nodes[1])

        return measure(stage, "Galera, two writers", "one node killed", hosts, strike, seconds)


def galera_quorum_lost(seconds: float) -> Row:
    with Stage() as stage:
        cluster = _galera(stage)
        host = _behind_haproxy(stage, cluster, IDLE)

        def strike() -> str | None:
            with cluster.without_quorum(cluster.nodes[0]):
                time.sleep(LASTS)
            return GAVE_UP if cluster.reunite() else None

        return measure(
            stage, "Galera, one writer behind HAProxy", f"quorum lost for {LASTS:.0f} s", [host], strike, seconds
        )


def galera_writer_cut_off(seconds: float) -> Row:
    with Stage() as stage:
        network = stage.network()
        nodes = [network.add() for _ in range(3)]
        host = _behind_haproxy(stage, _galera(stage, nodes), IDLE)

        def strike() -> None:
            with network.cut(nodes[0]):
                time.sleep(CUT_OFF)

        name = f"writer cut off, packets dropped for {CUT_OFF:.0f} s"
        return measure(stage, "Galera, one writer behind HAProxy", name, [host], strike, seconds)


def galera_two_writers_cut_off(seconds: float) -> Row:
    with Stage() as stage:
        network = stage.network()
        nodes = [network.add() for _ in range(3)]
        hosts = _two_hosts(stage, _galera(stage, nodes))

        def strike() -> None:
            with network.cut(nodes[1]):
                time.sleep(CUT_OFF)

        name = f"one node cut off, packets dropped for {CUT_OFF:.0f} s"
        return measure(stage, "Galera, two writers", name, hosts, strike, seconds)


def _two_hosts(stage: Stage, cluster: Galera) -> list[Product]:
    """Starts two hosts, each on its own node, with one state Redis and one Elasticsearch."""
    redis = Redis(stage.folder / "redis")
    redis.start()
    stage.callback(redis.kill)
    search = Elasticsearch(start_fast=True)
    stage.callback(search.stop)
    common = {
        "REDIS_URL": f"redis://127.0.0.1:{redis.port}/0",
        "ELASTICSEARCH_URL": search.url,
        "SECRET_KEY": "the same on both hosts, and long enough for the checks of Django",
    }
    # One after the other, as docs/howto/several-hosts.md says.
    return [
        stage.host(f"host-{number}", DATABASE_URL=node.url("chat"), **common)
        for number, node in enumerate(cluster.nodes[:2], start=1)
    ]


class Replicated(MySQL):
    """A MySQL with the settings of docs/howto/mysql-failover.md."""

    def __init__(self, folder: Path, server_id: int) -> None:
        super().__init__(folder)
        self.log_options = (
            f"--server-id={server_id}",
            "--log-bin=binlog",
            "--gtid-mode=ON",
            "--enforce-gtid-consistency=ON",
        )


def mysql_failover(seconds: float) -> Row:
    with Stage() as stage:
        primary, replica = Replicated(stage.folder / "primary", 1), Replicated(stage.folder / "replica", 2)
        for server in (primary, replica):
            server.start()
            stage.callback(server.kill)
        # Its own first statements (the user) are not the primary's.
        replica.execute("RESET BINARY LOGS AND GTIDS")
        primary.execute("RESET BINARY LOGS AND GTIDS")
        primary.execute(*_statements(ON_PRIMARY))
        address = {"db1.internal": "127.0.0.1", "3306": str(primary.port)}
        replica.execute(*_statements(ON_REPLICA, **address, replication=USER, password=PASSWORD))
        eventually(lambda: primary.execute("SHOW STATUS LIKE 'Rpl_semi_sync_source_clients'")[0][1] == "1")
        primary.new_database("chat")
        host = stage.host("host", DATABASE_URL=primary.url("chat"))

        def strike() -> str:
            primary.kill()
            time.sleep(LASTS)
            eventually(lambda: replica.execute(*_statements(HAS_ALL)) == [(1,)])
            replica.execute(*_statements(PROMOTE))
            host.stop()
            host.settings["DATABASE_URL"] = replica.url("chat")
            host.start()
            eventually(host.ready)
            eventually(lambda: host.states()["database"] == "ok")
            return "an operator promotes the replica, and restarts the host with the new DATABASE_URL"

        engine, fault = "MySQL 9, semi-synchronous replica", "primary killed, replica promoted by hand"
        return measure(stage, engine, fault, [host], strike, seconds)


def _statements(number: int, **replacements: str) -> list[str]:
    """Returns the statements of an SQL block of docs/howto/mysql-failover.md."""
    text = PAGE.read_text()
    block = textwrap.dedent(re.findall(r"^ *```sql\n(.*?)```$", text, re.MULTILINE | re.DOTALL)[number])
    for old, new in replacements.items():
        assert old in block
        block = block.replace(old, new)
    return [statement for statement in map(str.strip, block.split(";")) if statement]


ROWS: dict[str, Run] = {
    "galera, writer killed": galera_writer_killed,
    "galera, quorum lost": galera_quorum_lost,
    "galera, idle cuts": galera_idle_cuts,
    "galera, two writers, lag": galera_lag,
    "galera, two writers, killed": galera_two_writers_killed,
    "galera, writer cut off": galera_writer_cut_off,
    "galera, two writers, cut off": galera_two_writers_cut_off,
    "mysql, failover": mysql_failover,
}
