"""A real MariaDB, of Debian's package."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from tests.services import packages
from tests.services.database_server import DatabaseServer

# Debian keeps servers where only root's PATH leads.
os.environ["PATH"] += os.pathsep + "/usr/sbin"


class MariaDB(DatabaseServer):
    collation = "utf8mb4_nopad_bin"

    def install(self) -> None:
        packages.ensure(["mariadbd", "mariadb-install-db"], "mariadb-server")

    def initialize(self) -> None:
        options = ["--no-defaults", f"--datadir={self.data}", self.tmpdir, "--auth-root-authentication-method=normal"]
        user = ["--user=root"] if os.geteuid() == 0 else []
        subprocess.run(["mariadb-install-db", *options, *user, "--skip-test-db"], check=True, stdout=subprocess.DEVNULL)

    def dump(self, name: str, file: Path) -> None:
        """As docs/runbook.md has it."""
        with file.open("wb") as output:
            command = ["mariadb-dump", *self._as_root(), "--single-transaction", "--quick", name]
            subprocess.run(command, check=True, stdout=output)

    def load(self, name: str, file: Path) -> None:
        with file.open("rb") as dump:
            subprocess.run(["mariadb", *self._as_root(), name], check=True, stdin=dump)

    def _as_root(self) -> list[str]:
        return ["--no-defaults", "--user=root", f"--socket={self.socket}"]

    def command(self) -> list[str]:
        program = shutil.which("mariadbd")
        assert program is not None
        return [program, "--no-defaults", self.tmpdir, "--innodb-log-file-size=64M"]

    @property
    def tmpdir(self) -> str:
        """Not /tmp: two that are set up at once take each other's temporary tables there."""
        return f"--tmpdir={self.folder}"
