"""The load generator: wrk, with one thread. What it costs is told with what it measured."""

from __future__ import annotations

import json
import resource
import subprocess
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from tests.services import packages

SCRIPT = Path(__file__).with_name("wrk.lua")
CONNECTIONS = 16


class Request(NamedTuple):
    method: str
    path: str
    data: Any = None

    def __str__(self) -> str:
        # Without ASCII escapes lines would break at what JSON leaves as it is.
        body = "" if self.data is None else json.dumps(self.data)
        return f"{self.method}\t{self.path}\t{body}\n"


@dataclass(frozen=True, slots=True)
class Load:
    """What the clients saw. Latencies are in milliseconds."""

    requests: int
    #: Answered with 400 or above.
    refused: int
    #: Connections that broke, and answers that did not come within 2 s.
    broken: int
    seconds: float
    p50: float
    p99: float
    #: The share of one core that the generator itself took.
    core: float

    @property
    def accepted(self) -> int:
        return self.requests - self.refused

    @property
    def rate(self) -> float:
        """Accepted requests a second."""
        return self.accepted / self.seconds


def load(url: str, requests: Iterable[Request], seconds: int, connections: int = CONNECTIONS) -> Load:
    """Sends the requests over and over, each connection the next one as soon as it has an answer."""
    packages.ensure(["wrk"], "wrk")
    with tempfile.NamedTemporaryFile("w", suffix=".tsv") as file:
        file.writelines(map(str, requests))
        file.flush()
        options = ["--threads", "1", "--connections", str(connections), "--duration", f"{seconds}s"]
        before = _processor_seconds()
        command = ["wrk", *options, "--latency", "--script", str(SCRIPT), url, "--", file.name]
        output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        core = (_processor_seconds() - before) / seconds
    return Load(**json.loads(output.splitlines()[-1]), core=core)


def _processor_seconds() -> float:
    """Of the children that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
