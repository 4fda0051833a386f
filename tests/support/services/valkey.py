"""Valkey 8 of Debian 13, which takes the place of redis-server with REDIS=valkey."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

from chatsystem.embedded import redis_server
from tests.support.services.debian import System

#: 230 MB.
SYSTEM = System("Valkey 8", "trixie", "valkey-server", "valkey-trixie")


def use(folder: Path) -> None:
    """Makes Valkey the redis-server of this process's PATH, by a script in the folder. Raises `packages.Missing`."""
    SYSTEM.install()
    folder.mkdir()
    script = folder / "redis-server"
    script.write_text(f'#!/bin/sh\nexec {shlex.join(SYSTEM.command("bin/valkey-server"))} "$@"\n')
    script.chmod(0o755)
    os.environ["PATH"] = f"{folder}{os.pathsep}{os.environ['PATH']}"
    assert redis_server.find() == str(script)
