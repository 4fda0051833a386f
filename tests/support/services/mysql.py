"""A real MySQL 9 from Debian sid, unpacked into its own folder and run there with its own loader."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from pathlib import Path

from tests.support.services import packages
from tests.support.services.database_server import DatabaseServer

#: The folder of the unpacked server (560 MB), kept between runs. SERVICES_CACHE sets another one.
CACHE = Path(os.environ.get("SERVICES_CACHE") or Path.home() / ".cache" / "chatsystem")
SYSTEM = CACHE / "mysql-sid"
#: apt's Debian mirror, in the old or the new format of its sources.
SOURCES = [Path("/etc/apt/sources.list"), *Path("/etc/apt/sources.list.d").glob("*")]
MIRROR = re.compile(r"^(?:URIs: *|deb +(?:\[[^]]*\] *)?)(https?://\S*/debian)/?(?:\s|$)", re.MULTILINE)


class MySQL(DatabaseServer):
    collation = "utf8mb4_0900_bin"

    def install(self) -> None:
        if SYSTEM.exists():
            return
        if os.geteuid() != 0:
            raise packages.Missing(f"MySQL 9 is not unpacked in {SYSTEM}: run this once as root")
        packages.ensure(["debootstrap"], "debootstrap")
        CACHE.mkdir(parents=True, exist_ok=True)
        draft = SYSTEM.with_suffix(f".{os.getpid()}")
        log = draft.with_suffix(".log")
        command = ["debootstrap", "--variant=minbase", "--include=mysql-server-core", "sid", str(draft), _mirror()]
        with log.open("wb") as output:
            failed = subprocess.run(command, stdout=output, stderr=output, check=False).returncode
        if failed:
            shutil.rmtree(draft, ignore_errors=True)
            raise packages.Missing(f"MySQL 9 cannot be unpacked, see {log}")
        log.unlink()
        # Renamed into place, so that a killed run leaves no incomplete folder.
        draft.rename(SYSTEM)

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
        # No chroot: it would need root and tie the data to this folder.
        libraries = SYSTEM / "usr/lib" / f"{platform.machine()}-linux-gnu"
        (loader,) = libraries.glob("ld-linux-*.so.*")
        usr = SYSTEM / "usr"
        return [
            *[str(loader), "--library-path", str(libraries), str(usr / "sbin/mysqld")],
            *["--no-defaults", f"--basedir={usr}", f"--lc-messages-dir={usr / 'share/mysql'}"],
            *[f"--plugin-dir={usr / 'lib/mysql/plugin'}", "--secure-file-priv=NULL", "--mysqlx=0"],
        ]


def _mirror() -> str:
    for source in SOURCES:
        # Only regular source files, not disabled ones under another name.
        if source.suffix in (".list", ".sources") and source.is_file() and (found := MIRROR.search(source.read_text())):
            return found[1]
    raise packages.Missing("apt names no mirror of Debian, from which a MySQL server could be fetched")
