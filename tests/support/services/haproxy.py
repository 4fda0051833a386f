"""A real HAProxy in front of several database servers: it uses the first that answers."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from chatsystem.embedded.parent_death import end_with_parent
from tests.support.ports import free_port
from tests.support.services import packages

#: As in docs/databases.md, which explains the settings.
CONFIGURATION = """
defaults
    mode tcp
    timeout connect 2s
    timeout client {idle}s
    timeout server {idle}s

listen database
    bind 127.0.0.1:{port}
    option tcp-check
    default-server inter 500ms fall 2 rise 2 on-marked-down shutdown-sessions
"""


class HAProxy:
    """Raises `packages.Missing`. `idle` is the number of seconds after which it cuts an idle connection."""

    def __init__(self, folder: Path, addresses: Sequence[str], idle: int) -> None:
        packages.ensure(["haproxy"], "haproxy")
        self.port = free_port()
        servers = [
            f"    server node-{number} {address} check{' backup' if number > 1 else ''}\n"
            for number, address in enumerate(addresses, start=1)
        ]
        file = folder / "haproxy.cfg"
        file.write_text(CONFIGURATION.format(port=self.port, idle=idle) + "".join(servers))
        self.process = subprocess.Popen(
            ["haproxy", "-db", "-q", "-f", str(file)],
            preexec_fn=partial(end_with_parent, signal.SIGKILL, parent=os.getpid()),
        )

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
