"""Nodes of a Galera cluster that lag behind the others, or that have lost the quorum."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any, TypeVar

import pytest
from django.db import OperationalError, connection, connections

from chatsystem.conf import database
from chatsystem.monitoring.health import dependencies
from chatsystem.writelog import rollback_guard
from chatsystem.writelog.keys import Keys
from chatsystem.writelog.models import Partition
from chatsystem.writelog.partitions import locked
from chatsystem.writelog.redis_client import client
from tests.support.harness import skip_or_fail
from tests.support.services.galera import Galera, Node
from tests.support.services.packages import Missing

pytestmark = pytest.mark.nodes

T = TypeVar("T")

#: A partition.
P = 7


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Galera]:
    try:
        cluster = Galera(tmp_path_factory.mktemp("galera"))
    except Missing as missing:
        skip_or_fail(missing)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.kill()


@pytest.fixture
def node(db: None, state: object, cluster: Galera, monkeypatch: pytest.MonkeyPatch) -> Node:
    """Makes the second node the database of threads that start from now on."""
    node = cluster.nodes[1]
    url = node.new_database("chat")
    # A statement that waits in vain fails after half of the usual time.
    configured = connections.configure_settings({"default": database.parse(f"{url}?read_timeout={database.LOCK_WAIT}")})
    monkeypatch.setitem(connections.settings, "default", configured["default"])
    in_a_thread(create_table)
    return node


def create_table() -> None:
    """Creates only the table that these tests use. All migrations would take longer than the tests."""
    with connection.schema_editor() as editor:
        editor.create_model(Partition)
    Partition.objects.create(pk=P)


def drain_elsewhere(cluster: Galera, through: int) -> None:
    """Does what a drain on another node does."""
    cluster.nodes[0].execute(f"UPDATE chat.writelog_partition SET drained_through = {through} WHERE id = {P}")
    client(P).set(Keys(P).stored, through)


def in_a_thread(work: Callable[[], T]) -> T:
    """Returns what `work` returns on the node. The test's own thread is connected to another database."""

    def run() -> T:
        try:
            return work()
        finally:
            connections.close_all()

    with ThreadPoolExecutor(1) as threads:
        return threads.submit(run).result()


def drained_through() -> int:
    return Partition.objects.get(pk=P).drained_through


def test_a_node_without_a_quorum_is_told_as_a_database_that_is_down(cluster: Galera, node: Node) -> None:
    assert dependencies()["database"] == "ok"

    with cluster.without_quorum(node):
        assert node.execute("SELECT 1") == [(1,)]
        assert dependencies()["database"] == "down: the server has no quorum (1047)"

    cluster.reunite()
    assert dependencies()["database"] == "ok"


def test_nodes_that_wait_for_one_that_gave_up_store_again_after_what_the_runbook_says(
    cluster: Galera, node: Node
) -> None:
    def isolate(node: Node, how: int) -> None:
        node.execute(f"SET GLOBAL wsrep_provider_options='gmcast.isolate={how}'")

    # Given nodes that do not see each other, and one that gives up meanwhile,
    *others, gone = cluster.nodes
    for each in cluster.nodes:
        isolate(each, 1)
    for each in cluster.nodes:
        each.await_status("wsrep_cluster_status", "non-Primary")
    isolate(gone, 2)
    gone.await_status("wsrep_cluster_status", "Disconnected")

    # when the others see each other again, then they are two of three, and have no quorum,
    for each in others:
        isolate(each, 0)
    for each in others:
        each.await_status("wsrep_cluster_size", "2")
    assert dependencies()["database"] == "down: the server has no quorum (1047)"

    # until an operator does what the runbook says.
    assert cluster.reunite()
    assert dependencies()["database"] == "ok"


def test_a_node_that_lags_answers_nothing_rather_than_what_was_before(cluster: Galera, node: Node) -> None:
    # Given a node that does not apply what another one has committed,
    with node.lagging():
        drain_elsewhere(cluster, through=5)
        assert node.execute(f"SELECT drained_through FROM chat.writelog_partition WHERE id = {P}") == [(0,)]

        # when the product reads from it, or compares it with Redis, then it waits, and fails (a 503 of the API),
        with pytest.raises(OperationalError):
            in_a_thread(drained_through)
        with pytest.raises(OperationalError):
            in_a_thread(lambda: rollback_guard.halt_or_resume([P]))
        assert dependencies()["database"].startswith("down: ")

    # and no partition is halted. Once the node has caught up, it shows everything.
    assert rollback_guard.halted([P]) == []
    assert in_a_thread(drained_through) == 5


def test_a_drain_that_commits_on_another_node_while_a_row_is_locked_does_not_halt_it(
    cluster: Galera, node: Node
) -> None:
    """Galera has no locks across nodes."""
    # Given a node that lags from the moment on at which it has locked a partition's row,
    lag = ExitStack()

    def begin_to_lag(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        result = execute(sql, params, many, context)
        if "FOR UPDATE" in sql:
            lag.enter_context(node.lagging())
            drain_elsewhere(cluster, through=9)
        return result

    # when another node stores events of that partition,
    def lock() -> int:
        with connection.execute_wrapper(begin_to_lag), locked(P) as row:
            assert row is not None
            return row.drained_through

    with lag:
        assert in_a_thread(lock) == 0

    # then the row that was read before is not taken for that of an older database.
    assert rollback_guard.halted([P]) == []
    assert in_a_thread(drained_through) == 9
