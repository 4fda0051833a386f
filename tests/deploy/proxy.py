"""The proxy of deploy/nginx, as it is but for its ports, and a name server that knows where `web` is."""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.bench import skip_or_fail
from tests.embedded.product import eventually, free_port
from tests.services import packages

DEPLOY = Path(__file__).resolve().parent.parent.parent / "deploy" / "nginx"
CONFIG = (DEPLOY / "nginx.conf").read_text()
ERRORS = (DEPLOY / "errors.conf").read_text()


def ensure_nginx() -> None:
    try:
        packages.ensure(["nginx"], "nginx-light")
    except packages.Missing as missing:
        skip_or_fail(missing)


def listens(port: int, host: str = "127.0.0.1") -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((host, port)) == 0


@contextmanager
def nginx(folder: Path, web: str, resolver: str = "127.0.0.11") -> Iterator[int]:
    """Runs it in `folder` before `web`, a host and a port; its own port. `resolver` is asked where the host is."""
    port = free_port()
    config = CONFIG.replace("listen 8080", f"listen {port}").replace("127.0.0.1:8081", f"127.0.0.1:{free_port()}")
    config = config.replace("set $web web:8000;", f"set $web {web};").replace(
        "resolver 127.0.0.11", f"resolver {resolver}"
    )
    if os.geteuid() == 0:
        # Else its workers were nobody's, and could not write to pytest's folder.
        config = "user root;\n" + config
    (folder / "nginx.conf").write_text(config)
    (folder / "errors.conf").write_text(ERRORS)
    command = ["nginx", "-p", f"{folder}/", "-c", f"{folder}/nginx.conf"]
    subprocess.run([*command, "-t"], check=True, capture_output=True)
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            eventually(lambda: listens(port))
            yield port
        finally:
            server.terminate()


class NameServer:
    """Tells everybody who asks for anything the same addresses, as Docker's tells those of a service's containers."""

    def __init__(self, *addresses: str) -> None:
        self.addresses = addresses
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self.socket.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        self.socket.close()

    def _serve(self) -> None:
        while True:
            try:
                query, client = self.socket.recvfrom(512)
                self.socket.sendto(self._answer(query), client)
            except OSError:
                return

    def _answer(self, query: bytes) -> bytes:
        """RFC 1035, 4.1: a header, the question as it was asked, and an A record for each address."""
        question = query[12 : query.index(b"\0", 12) + 5]
        header = query[:2] + struct.pack("!HHHHH", 0x8180, 1, len(self.addresses), 0, 0)
        # 0xC00C points back to the question's name; type A, class IN, a second to live, four bytes.
        records = [struct.pack("!HHHIH", 0xC00C, 1, 1, 1, 4) + socket.inet_aton(address) for address in self.addresses]
        return header + question + b"".join(records)
