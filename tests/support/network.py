"""Hosts on a network of this machine, each in its own network namespace, whose packets can be dropped."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from tests.support.services.packages import Missing

#: The first two bytes of each address. The third differs between networks.
PREFIX = "10.213"
#: A hardware address that no host has.
NOBODY = "02:00:00:00:00:00"


@dataclass(frozen=True)
class Host:
    #: '' for the machine itself.
    namespace: str
    device: str
    address: str
    mac: str

    def command(self, words: Sequence[str]) -> list[str]:
        """Returns the command line that runs a program on this host."""
        return ["ip", "netns", "exec", self.namespace, *words] if self.namespace else list(words)

    def ip(self, *words: str) -> None:
        _ip(*(["-n", self.namespace] if self.namespace else []), *words)

    def send_to(self, other: Host, mac: str) -> None:
        """Sends what is for the other host to that hardware address."""
        # Permanent, or the host would ask the network for it, and notice that there is no answer.
        to = ["lladdr", mac, "dev", self.device, "nud", "permanent"]
        self.ip("neighbour", "replace", other.address, *to)


#: The machine itself, without a network.
LOCAL = Host("", "lo", "127.0.0.1", "")


class Network:
    """A bridge between the machine and other hosts. Raises `Missing` if it may not create namespaces."""

    def __init__(self) -> None:
        if os.geteuid() or not shutil.which("ip"):
            raise Missing("rows with dropped packets need root and `apt-get install iproute2`")
        used = _ip("-oneline", "-4", "address")
        self.number = next(number for number in range(256) if f" {PREFIX}.{number}." not in used)
        self.machine = self._host("", f"scale{self.number}", 1)
        self.hosts = [self.machine]
        self.closing = ExitStack()
        _ip("link", "add", self.machine.device, "address", self.machine.mac, "type", "bridge")
        self.closing.callback(_ip, "link", "delete", self.machine.device)
        self._start(self.machine)

    def _host(self, namespace: str, device: str, number: int) -> Host:
        return Host(
            namespace, device, f"{PREFIX}.{self.number}.{number}", f"02:00:00:00:{self.number:02x}:{number:02x}"
        )

    def _start(self, host: Host) -> None:
        host.ip("address", "add", f"{host.address}/24", "dev", host.device)
        host.ip("link", "set", host.device, "up")

    def add(self) -> Host:
        number = len(self.hosts) + 1
        name = f"{self.machine.device}-{number}"
        host = self._host(name, "eth0", number)
        _ip("netns", "add", name)
        self.closing.callback(_ip, "netns", "delete", name)
        inside = ["peer", "name", host.device, "address", host.mac, "netns", name]
        _ip("link", "add", name, "type", "veth", *inside)
        # Otherwise it outlives its namespace for a moment, and the next network has one of the same name.
        self.closing.callback(_ip, "link", "delete", name)
        _ip("link", "set", name, "master", self.machine.device, "up")
        host.ip("link", "set", "lo", "up")
        self._start(host)
        for other in self.hosts:
            host.send_to(other, other.mac)
            other.send_to(host, host.mac)
        self.hosts.append(host)
        return host

    @contextmanager
    def cut(self, host: Host, *others: Host) -> Iterator[None]:
        """Drops all packets between the host and the others, or between it and all.

        Nobody is told: connections stay open and carry nothing.
        """
        pairs = [(host, other) for other in others or self.hosts if other is not host]
        for one, other in pairs:
            one.send_to(other, NOBODY)
            other.send_to(one, NOBODY)
        try:
            yield
        finally:
            for one, other in pairs:
                one.send_to(other, other.mac)
                other.send_to(one, one.mac)

    def close(self) -> None:
        self.closing.close()


def _ip(*words: str) -> str:
    done = subprocess.run(["ip", *words], capture_output=True, text=True)
    if done.returncode:
        raise Missing(f"ip {' '.join(words)}: {done.stderr.strip()}")
    return done.stdout
