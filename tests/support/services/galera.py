"""A real Galera cluster of three MariaDB nodes."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.network import LOCAL, Host
from tests.support.ports import reserve_port
from tests.support.product import PATIENCE, send
from tests.support.services import packages
from tests.support.services.mariadb import MariaDB

PROVIDER = Path("/usr/lib/galera/libgalera_smm.so")

#: Timeouts after which a node notices that another one is gone: half of the defaults. Shorter ones make a cluster on a
#: busy machine lose its members.
TIMEOUTS = "evs.keepalive_period=PT0.5S;evs.suspect_timeout=PT2.5S;evs.inactive_timeout=PT7S;evs.install_timeout=PT7S"

POSITION = re.compile(r"Recovered position:? ([-\w]+:\d+)")

#: Of docs/runbook.md.
BOOTSTRAP = "SET GLOBAL wsrep_provider_options='pc.bootstrap=YES'"


class Node(MariaDB):
    """One node. `group` lists the addresses of all nodes; a node without others founds a new cluster."""

    def __init__(self, folder: Path, host: Host = LOCAL) -> None:
        super().__init__(folder)
        self.host = host
        # A node listens on the last two only while it catches up. A connection that had got such a port would end it.
        self.reservations = [reserve_port() for _ in range(3)]
        ports = (reservation.getsockname()[1] for reservation in self.reservations)
        self.group_port, self.transfer_port, self.copy_port = ports
        self.options: list[str] = []

    def install(self) -> None:
        super().install()
        # A new node copies the data of another one with these.
        packages.ensure(["mariadb-backup", "socat"], "mariadb-backup", "socat")
        if not PROVIDER.exists():
            with packages.one_at_a_time("programs"):
                packages.apt_get_install(f"{PROVIDER} not found", "galera-4")

    @property
    def address(self) -> str:
        return f"{self.host.address}:{self.group_port}"

    def command(self) -> list[str]:
        provider = f"gmcast.listen_addr=tcp://{self.address};ist.recv_addr={self.host.address}:{self.transfer_port}"
        return [
            *super().command(),
            "--binlog-format=ROW",
            "--innodb-autoinc-lock-mode=2",
            "--wsrep-on=ON",
            f"--wsrep-provider={PROVIDER}",
            "--wsrep-cluster-name=tests",
            f"--wsrep-node-address={self.address}",
            "--wsrep-sst-method=mariabackup",
            "--wsrep-sst-auth=root:",
            f"--wsrep-sst-receive-address={self.host.address}:{self.copy_port}",
            f"--wsrep-provider-options={provider};gcache.size=64M;{TIMEOUTS}",
            *self.options,
        ]

    def join(self, *others: Node) -> None:
        """Starts the node and waits until it takes statements. Without others it founds the cluster."""
        self.options = [f"--wsrep-cluster-address=gcomm://{','.join(other.address for other in others)}"]
        if others and self.data.exists():
            self.options.append(f"--wsrep-start-position={self._position()}")
        self.start()

    def _wait(self) -> None:
        # It answers before it takes statements (error 1047).
        super()._wait()
        self.await_synced()

    def await_synced(self) -> None:
        """Waits until the node takes statements and has what the others have."""
        self.await_status("wsrep_local_state_comment", "Synced")
        self.await_status("wsrep_ready", "ON")

    def shut_down(self) -> None:
        assert self.process is not None
        self.process.terminate()
        self.process.wait(PATIENCE)

    @contextmanager
    def lagging(self) -> Iterator[None]:
        """Stops the node from applying what the others commit. It goes on answering."""
        self.execute("SET GLOBAL wsrep_desync = ON")
        session = self.connect()
        session.query("FLUSH TABLES WITH READ LOCK")
        try:
            yield
        finally:
            session.query("UNLOCK TABLES")
            session.close()
            self.execute("SET GLOBAL wsrep_desync = OFF")

    @property
    def status(self) -> dict[str, str]:
        """What the node says about the group, by the names of SHOW STATUS."""
        return dict(self.execute("SHOW STATUS LIKE 'wsrep\\_%'"))

    @property
    def has_given_up(self) -> bool:
        """Whether it has left the group for good. Its process goes on."""
        return self.status["wsrep_cluster_status"] == "Disconnected"

    def await_status(self, name: str, value: str) -> None:
        deadline = time.monotonic() + PATIENCE
        while self.execute(f"SHOW STATUS LIKE '{name}'") != [(name, value)]:
            assert time.monotonic() < deadline, f"{name} is not {value}"
            time.sleep(0.05)

    def connect(self) -> Any:
        """Connects again if the node ends the connection at once, which it does while the group changes."""
        import MySQLdb
        from MySQLdb.constants import CR

        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                return super().connect()
            except MySQLdb.OperationalError as error:
                if error.args[0] != CR.SERVER_LOST or time.monotonic() > deadline:
                    raise
                time.sleep(0.05)

    def _position(self) -> str:
        """Returns the last transaction that the node holds, also after a kill. mariadbd-safe asks in the same way."""
        user = ["--user=root"] if os.geteuid() == 0 else []
        arguments = [f"--datadir={self.data}", f"--socket={self.socket}", "--skip-networking", "--wsrep-recover"]
        words = [*self.command(), *user, *arguments]
        output = subprocess.run(words, check=True, capture_output=True, text=True).stderr
        found = POSITION.search(output)
        assert found is not None, output
        return found[1]


class Galera:
    """Three nodes, each on its host. Raises `packages.Missing` when they cannot be installed."""

    def __init__(self, folder: Path, hosts: Sequence[Host] = (LOCAL, LOCAL, LOCAL)) -> None:
        self.nodes = [Node(folder / f"node-{number}", host) for number, host in enumerate(hosts, start=1)]

    def start(self) -> None:
        first, *others = self.nodes
        first.join()
        # The position is in the data after a shutdown.
        first.shut_down()
        for other in others:
            other.folder.mkdir(parents=True)
            shutil.copytree(first.data, other.data)
        first.join()
        for other in others:
            other.join(*self.nodes)
        for node in self.nodes:
            node.await_status("wsrep_cluster_size", "3")
            node.await_synced()

    def rejoin(self, node: Node) -> None:
        """Starts a node again that was killed."""
        node.join(*self.nodes)

    @contextmanager
    def without_quorum(self, node: Node) -> Iterator[None]:
        """Pauses the other two. One of three is no majority."""
        others = [other.process for other in self.nodes if other is not node and other.process]
        for process in others:
            send(process.pid, signal.SIGSTOP)
        try:
            node.await_status("wsrep_cluster_status", "non-Primary")
            yield
        finally:
            for process in others:
                send(process.pid, signal.SIGCONT)

    def reunite(self) -> bool:
        """Waits until the nodes have their quorum again, and returns whether that took an operator.

        A node that was paused for longer than the timeouts may not agree with the others on who is there, and gives up.
        They wait for it for ever (mariadb-corporation/galera#690). Then this does what the runbook says.
        """
        helped = False
        deadline = time.monotonic() + PATIENCE
        while not self._is_whole():
            assert time.monotonic() < deadline, [node.status for node in self.nodes]
            gone = [node for node in self.nodes if node.has_given_up]
            left = [node for node in self.nodes if node not in gone]
            # A node that still negotiates says that it is primary, and may give up too.
            if gone and left and all(node.status["wsrep_evs_state"] == "OPERATIONAL" for node in left):
                self._help(gone, left)
                helped = True
            time.sleep(0.1)
        for node in self.nodes:
            node.await_synced()
        return helped

    def _is_whole(self) -> bool:
        whole = ("Primary", str(len(self.nodes)))
        statuses = [node.status for node in self.nodes]
        return all((status["wsrep_cluster_status"], status["wsrep_cluster_size"]) == whole for status in statuses)

    def _help(self, gone: Sequence[Node], left: Sequence[Node]) -> None:
        if all(node.status["wsrep_cluster_status"] != "Primary" for node in left):
            newest = max(left, key=_committed)
            assert _committed(newest) >= max(map(_committed, gone)), "the node that gave up has more than the others"
            newest.execute(BOOTSTRAP)
        for node in gone:
            node.shut_down()
            self.rejoin(node)

    def kill(self) -> None:
        for node in self.nodes:
            if node.process is not None:
                node.kill()
            for reservation in node.reservations:
                reservation.close()


def _committed(node: Node) -> int:
    return int(node.status["wsrep_last_committed"])
