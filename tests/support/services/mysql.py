"""A real MySQL 9 from Debian sid, unpacked into its own folder and run there with its own loader."""

from __future__ import annotations

import os
import subprocess

from tests.support.services.database_server import DatabaseServer
from tests.support.services.debian import System

#: 560 MB.
SYSTEM = System("MySQL 9", "sid", "mysql-server-core", "mysql-sid")


class MySQL(DatabaseServer):
    collation = "utf8mb4_0900_bin"

    def install(self) -> None:
        SYSTEM.install()

    def initialize(self) -> None:
        user = ["--user=root"] if os.geteuid() == 0 else []
        with (self.folder / "initialize.log").open("wb") as log:
            subprocess.run(
                [*self.command(), *user, f"--datadir={self.data}", "--initialize-insecure"],
                check=True,
                stdout=log,
                stderr=log,
            )

    def command(self) -> list[str]:
        usr = SYSTEM.root / "usr"
        return [
            *SYSTEM.command("sbin/mysqld"),
            *["--no-defaults", f"--basedir={usr}", f"--lc-messages-dir={usr / 'share/mysql'}"],
            *[f"--plugin-dir={usr / 'lib/mysql/plugin'}", "--secure-file-priv=NULL", "--mysqlx=0"],
        ]
