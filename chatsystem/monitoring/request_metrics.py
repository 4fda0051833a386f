"""Counts and times requests, in all web processes of a host. Documented in docs/metrics.md.

This is the multiprocess mode of prometheus_client: each process counts in its own memory-mapped file in METRICS_DIR,
and any process reads all of them. The files are numbered instead of named by pid. A process owns the file whose lock it
holds. A new process continues the file of one that has ended, so files do not pile up.
"""

from __future__ import annotations

import os
import re
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from prometheus_client import Histogram, values
from prometheus_client.values import MultiProcessValue

from chatsystem import file_lock

if TYPE_CHECKING:
    from django.urls import ResolverMatch

#: Key of the WSGI environment under which the server finds the request's ResolverMatch, or None.
MATCH = "chatsystem.resolver_match"

# Clients choose paths and methods, so unknown ones must not become labels.
NO_ROUTE = "none"
METHODS = frozenset({"GET", "HEAD", "POST", "PATCH", "PUT", "DELETE", "OPTIONS"})
OTHER_METHOD = "other"

REQUESTS = Histogram(
    "chatsystem_request_duration_seconds",
    "Duration of answered requests, from the first byte to the end of the response, including the wait for a thread.",
    ["route", "method", "status"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0),
    registry=None,
)


def share(folder: Path) -> None:
    """Makes this process count in a file that the other processes of its host can read."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(folder)
    number = next(number for number in count() if file_lock.take(folder / f"{number}.lock") is not None)
    values.ValueClass = MultiProcessValue(lambda: number)


def observe(match: ResolverMatch | None, method: str, status: int, seconds: float) -> None:
    method = method if method in METHODS else OTHER_METHOD
    REQUESTS.labels(_route(match), method, str(int(status))).observe(seconds)


def _route(match: ResolverMatch | None) -> str:
    """Returns the route as in the docs, such as `/applications/:token/chats`. All routes of the admin are one."""
    if match is None:
        return NO_ROUTE
    if match.route.startswith("admin"):
        return "/admin"
    return "/" + re.sub(r"<\w+:(\w+)>", r":\1", match.route.rstrip("/"))
