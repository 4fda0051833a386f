"""The common part of MariaDB and MySQL: a server of one test run, with its own port, socket and folder."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from abc import ABC, abstractmethod
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

from chatsystem.embedded.parent_death import end_with_parent
from tests.support.network import LOCAL, Host
from tests.support.ports import free_port
from tests.support.product import PATIENCE

#: Contains characters with a meaning in URLs on purpose.
USER, PASSWORD = "chat", "p@ss/w%rd"


class DatabaseServer(ABC):
    """Installs the server's packages. Raises `packages.Missing` when it cannot."""

    #: The binary no-pad collation that the system check requires.
    collation: str
    #: Memory for tables and indexes. Small, since several servers run next to the tests.
    buffer_pool = "128M"
    #: Options of the binary log, which only replicas need.
    log_options = ("--skip-log-bin",)
    #: Where it runs.
    host: Host = LOCAL

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None
        self.install()

    @abstractmethod
    def install(self) -> None:
        """Makes sure that the programs are installed."""

    @abstractmethod
    def initialize(self) -> None:
        """Initialises `data`, with a root user without a password."""

    @abstractmethod
    def command(self) -> list[str]:
        """Returns the command line of the server, with its own options."""

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def socket(self) -> Path:
        return self.folder / "mysqld.sock"

    def url(self, name: str, port: int | None = None) -> str:
        """Returns a DATABASE_URL. `port` may be that of a proxy in front of the server, on this machine."""
        address = f"{LOCAL.address}:{port}" if port else f"{self.host.address}:{self.port}"
        return f"mysql://{USER}:{quote(PASSWORD, safe='')}@{address}/{name}"

    def start(self) -> None:
        fresh = not self.data.exists()
        if fresh:
            self.folder.mkdir(parents=True, exist_ok=True)
            self.initialize()
        options = {
            "user": "root" if os.geteuid() == 0 else "",
            "datadir": self.data,
            "socket": self.socket,
            "pid-file": self.data / "mysqld.pid",
            "port": self.port,
            "bind-address": self.host.address,
            "character-set-server": "utf8mb4",
            "collation-server": self.collation,
            "innodb-buffer-pool-size": self.buffer_pool,
        }
        words = [f"--{name}={value}" for name, value in options.items() if value != ""]
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                self.host.command([*self.command(), *words, *self.log_options]),
                stdout=log,
                stderr=log,
                preexec_fn=partial(end_with_parent, signal.SIGKILL, parent=os.getpid()),
            )
        self._wait()
        if fresh:
            self.execute(f"CREATE USER '{USER}'@'%' IDENTIFIED BY '{PASSWORD}'", f"GRANT ALL ON *.* TO '{USER}'@'%'")

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def restart(self) -> None:
        """Restarts the server on the same data."""
        self.kill()
        self.start()

    def execute(self, *statements: str) -> list[tuple]:
        """Executes statements as root, and returns the rows of the last one."""
        connection = self.connect()
        try:
            with connection.cursor() as cursor:
                for statement in statements:
                    cursor.execute(statement)
                return list(cursor.fetchall())
        finally:
            connection.close()

    def connect(self) -> Any:
        """Returns a connection of root's, which commits each statement."""
        import MySQLdb

        return MySQLdb.connect(unix_socket=str(self.socket), user="root", autocommit=True)

    def new_database(self, name: str) -> str:
        """Creates an empty database, and returns its URL."""
        self.execute(f"DROP DATABASE IF EXISTS `{name}`", f"CREATE DATABASE `{name}`")
        return self.url(name)

    def copy_database(self, source: str, target: str) -> None:
        """Copies the tables of `source` to `target`, as a dump and its restore would, also under connected clients."""
        self.execute(f"CREATE DATABASE IF NOT EXISTS `{target}`")
        tables = [name for (name,) in self.execute(f"SHOW TABLES FROM `{source}`")]
        copies = [
            statement
            for table in tables
            for statement in (
                f"CREATE TABLE IF NOT EXISTS `{target}`.`{table}` LIKE `{source}`.`{table}`",
                f"DELETE FROM `{target}`.`{table}`",
                f"INSERT INTO `{target}`.`{table}` SELECT * FROM `{source}`.`{table}`",
            )
        ]
        self.execute("SET foreign_key_checks = 0", "SET autocommit = 0", *copies, "COMMIT")

    def _wait(self) -> None:
        import MySQLdb

        assert self.process is not None
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                self.execute("SELECT 1")
                return
            except MySQLdb.OperationalError:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    raise AssertionError((self.folder / "server.log").read_text()) from None
                time.sleep(0.05)
