"""Runs the load generator wrk with one thread, and measures its own processor time too."""

from __future__ import annotations

import json
import resource
import subprocess
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from tests.support.services import packages

SCRIPT = Path(__file__).with_name("wrk.lua")
CONNECTIONS = 16


class Request(NamedTuple):
    method: str
    path: str
    data: Any = None

    def __str__(self) -> str:
        # json.dumps escapes all line separators, because its output is ASCII.
        body = "" if self.data is None else json.dumps(self.data)
        return f"{self.method}\t{self.path}\t{body}\n"


@dataclass(frozen=True, slots=True)
class Load:
    """The clients' figures. Latencies are in milliseconds."""

    requests: int
    #: Responses with status 400 or above.
    refused: int
    #: Connections that broke, and requests without a response within 2 s.
    broken: int
    seconds: float
    p50: float
    p99: float
    #: The share of one core that the generator used.
    core: float

    @property
    def accepted(self) -> int:
        return self.requests - self.refused

    @property
    def rate(self) -> float:
        """Accepted requests a second."""
        return self.accepted / self.seconds


def load(url: str, requests: Iterable[Request], seconds: int, connections: int = CONNECTIONS) -> Load:
    """Sends the requests over and over. Each connection sends the next request after the last response."""
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
    """Returns the processor time of the child processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
