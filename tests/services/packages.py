"""What the services need of this machine: found, else installed with apt-get, else named."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable
from typing import NoReturn

import pytest


class Missing(Exception):
    """Its message names what is missing and what to type."""


def ensure(programs: Iterable[str], *packages: str) -> None:
    """Raises Missing unless the programs are on the PATH, or apt-get brings them in the packages."""
    missing = [program for program in programs if shutil.which(program) is None]
    if missing:
        apt_get_install(f"{', '.join(missing)} not found", *packages)


def apt_get_install(reason: str, *packages: str) -> None:
    by_hand = f"{reason}: `apt-get install {' '.join(packages)}`"
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise Missing(by_hand)
    # Services are started by the tests, on ports of their own: packages shall start none.
    environ = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    install = ["apt-get", "install", "--yes", "--no-install-recommends", "-qq", *packages]
    for command in (["apt-get", "update", "-qq"], install):
        if subprocess.run(command, env=environ, stdout=subprocess.DEVNULL, check=False).returncode:
            raise Missing(by_hand)


def skip_or_fail(missing: Missing) -> NoReturn:
    """At home a service may be absent. In CI a skipped test would be one that nobody notices is never run."""
    if os.environ.get("CI") == "true":
        pytest.fail(str(missing), pytrace=False)
    pytest.skip(str(missing))
