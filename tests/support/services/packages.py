"""Finds the programs that the services need, or installs them with apt-get, or names them.

`python -m tests.support.services.packages` does so for the compiler before there is a .venv: it needs the standard
library only.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

#: Any of these is sufficient.
CLIENT_LIBRARIES = ("libmariadb", "mariadb", "mysqlclient")


class Missing(Exception):
    """Its message names what is missing and what to type."""


@contextmanager
def one_at_a_time(what: str) -> Iterator[None]:
    """Locks out the other test processes of this machine, which may be about to install the same thing."""
    with (Path(tempfile.gettempdir()) / f"chatsystem-installs-{what}-{os.getuid()}").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def ensure(programs: Iterable[str], *packages: str) -> None:
    """Raises Missing unless the programs are on the PATH or apt-get can install the packages."""
    with one_at_a_time("programs"):
        missing = [program for program in programs if shutil.which(program) is None]
        if missing:
            apt_get_install(f"{', '.join(missing)} not found", *packages)


def apt_get_install(reason: str, *packages: str) -> None:
    by_hand = f"{reason}: `apt-get install {' '.join(packages)}`"
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise Missing(by_hand)
    # Keeps packages from starting services. The tests start them on their own ports.
    environ = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    install = ["apt-get", "install", "--yes", "--no-install-recommends", "-qq", *packages]
    for command in (["apt-get", "update", "-qq"], install):
        if subprocess.run(command, env=environ, stdout=subprocess.DEVNULL, check=False).returncode:
            raise Missing(by_hand)


def ensure_compiler() -> None:
    """Makes sure that mysqlclient, which is distributed as source, can be compiled. Raises Missing."""
    include = Path(sysconfig.get_path("include"))
    found = {
        "gcc": shutil.which("gcc") is not None,
        "pkg-config": shutil.which("pkg-config") is not None,
        "python3-dev": (include / "Python.h").exists(),
        "libmariadb-dev": shutil.which("pkg-config") is not None and any(map(_is_known, CLIENT_LIBRARIES)),
    }
    if missing := [package for package, there in found.items() if not there]:
        apt_get_install("mysqlclient cannot be compiled without these", *missing)


def _is_known(library: str) -> bool:
    return subprocess.run(["pkg-config", "--exists", library], check=False).returncode == 0


if __name__ == "__main__":
    try:
        ensure_compiler()
    except Missing as error:
        sys.exit(f"make: {error}")
