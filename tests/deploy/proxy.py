"""The proxy of deploy/nginx with other ports, and a name server that resolves `web`."""

from __future__ import annotations

import os
import re
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from tests.support.harness import skip_or_fail
from tests.support.ports import free_port
from tests.support.product import eventually
from tests.support.services import packages

DEPLOY = Path(__file__).resolve().parent.parent.parent / "deploy" / "nginx"
CONFIG = (DEPLOY / "nginx.conf").read_text()
ERRORS = (DEPLOY / "errors.conf").read_text()
WEB = (DEPLOY / "web.conf").read_text()
HOSTS = (DEPLOY / "hosts.conf").read_text()

#: The time-outs of the proxy, such as `proxy_read_timeout 30s`. Not how long it keeps an idle connection.
TIMEOUT = re.compile(r"\b(\w+_timeout)(?<!keepalive_timeout) \d+s;")
#: Seconds that take their place. A machine may stand still for ten seconds, and no request is lost then. One that is
#: sent again must arrive within REQUEST_LIFETIME (60 s) after the first time. Clients have to wait longer.
PATIENCE = 45
CLIENT_PATIENCE = 90.0
#: Seconds after which nginx has forgotten addresses. `valid` of the resolver is 5 s, and it counts whole seconds.
FORGOTTEN = 30


def ensure_nginx() -> None:
    try:
        packages.ensure(["nginx"], "nginx-light")
    except packages.Missing as missing:
        skip_or_fail(missing)


def listens(port: int, host: str = "127.0.0.1") -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((host, port)) == 0


def nginx(folder: Path, web: str, resolver: str = "127.0.0.11", live: str = "live:8001") -> AbstractContextManager[int]:
    """Runs nginx in `folder` in front of `web` and `live` (host:port), and yields its port.

    `resolver` resolves the hosts.
    """
    moved = WEB.replace("default web:8000;", f"default {web};").replace("default live:8001;", f"default {live};")
    return _nginx(folder, moved.replace("resolver 127.0.0.11", f"resolver {resolver}"))


def nginx_of_hosts(folder: Path, ports: Sequence[int]) -> AbstractContextManager[int]:
    """Runs nginx with hosts.conf in front of two hosts, and yields its port."""
    moved = iter(ports)
    return _nginx(folder, re.sub(r"server 10\.0\.0\.\d+:8000 ", lambda _: f"server 127.0.0.1:{next(moved)} ", HOSTS))


@contextmanager
def _nginx(folder: Path, web: str) -> Iterator[int]:
    port = free_port()
    config = CONFIG.replace("listen 8080", f"listen {port}").replace("127.0.0.1:8081", f"127.0.0.1:{free_port()}")
    if os.geteuid() == 0:
        # Otherwise its workers would run as nobody, and could not write to pytest's folder.
        config = "user root;\n" + config
    for name, text in {"nginx.conf": config, "errors.conf": ERRORS, "web.conf": web}.items():
        (folder / name).write_text(TIMEOUT.sub(rf"\1 {PATIENCE}s;", text))
    command = ["nginx", "-p", f"{folder}/", "-c", f"{folder}/nginx.conf"]
    subprocess.run([*command, "-t"], check=True, capture_output=True)
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            eventually(lambda: listens(port))
            yield port
        finally:
            server.terminate()


class NameServer:
    """A name server that resolves every name to the same addresses, like Docker's for a service."""

    def __init__(self, *addresses: str) -> None:
        self.addresses = addresses
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self.socket.getsockname()[1]}"
        #: What each process of nginx was told last, and when. Each asks from a port of its own.
        self.told: dict[object, tuple[float, tuple[str, ...]]] = {}
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        self.socket.close()

    def is_known(self) -> bool:
        """Returns whether each process of nginx was told the addresses, or has forgotten what it was told before."""
        past = [at for at, addresses in list(self.told.values()) if addresses != self.addresses]
        return all(time.monotonic() - at > FORGOTTEN for at in past)

    def _serve(self) -> None:
        while True:
            try:
                query, client = self.socket.recvfrom(512)
                addresses = self.addresses
                self.told[client] = time.monotonic(), addresses
                self.socket.sendto(self._answer(query, addresses), client)
            except OSError:
                return

    def _answer(self, query: bytes, addresses: tuple[str, ...]) -> bytes:
        """Returns a header, the question, and an A record for each address (RFC 1035, 4.1)."""
        question = query[12 : query.index(b"\0", 12) + 5]
        header = query[:2] + struct.pack("!HHHHH", 0x8180, 1, len(addresses), 0, 0)
        # 0xC00C points to the question's name; type A, class IN, a TTL of one second, four bytes.
        records = [struct.pack("!HHHIH", 0xC00C, 1, 1, 1, 4) + socket.inet_aton(address) for address in addresses]
        return header + question + b"".join(records)
