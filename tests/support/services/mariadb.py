"""A real MariaDB from Debian's package."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from tests.support.services import packages
from tests.support.services.database_server import DatabaseServer

# Debian installs servers in a folder that is only on root's PATH.
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
        """Backs up as in docs/runbook.md."""
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
        """Returns the option for the temporary folder. In /tmp, two servers would use each other's temporary tables."""
        return f"--tmpdir={self.folder}"
