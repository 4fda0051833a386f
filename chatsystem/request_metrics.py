"""How many requests there were, and how long they took, in all web processes of a host.

Each process counts in a file of its own in METRICS_DIR, mapped into its memory, and any of them reads all of them. A
file belongs to whoever holds its lock: the process that comes after one that ended goes on with its numbers.
Documented in docs/operations.md.
"""

from __future__ import annotations

import os
import re
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from prometheus_client import Histogram, values
from prometheus_client.values import MultiProcessValue

from chatsystem.embedded import locks

if TYPE_CHECKING:
    from django.urls import ResolverMatch

#: Key of the WSGI environment under which the server finds the request's ResolverMatch, or None.
MATCH = "chatsystem.resolver_match"

# Paths and methods are a client's words: what is none of ours is no label.
NO_ROUTE = "none"
METHODS = frozenset({"GET", "HEAD", "POST", "PATCH", "PUT", "DELETE", "OPTIONS"})
OTHER_METHOD = "other"

REQUESTS = Histogram(
    "chatsystem_request_duration_seconds",
    "Answered requests, from the first byte to the end of the answer, the wait for a thread included.",
    ["route", "method", "status"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0),
    registry=None,
)

#: By the resolver's route, method and status: labels are looked up and checked once, not with each request.
_children: dict[tuple[str | None, str, int], Histogram] = {}


def share(folder: Path) -> None:
    """From here on this process counts where the others of its host can read it."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(folder)
    number = next(number for number in count() if locks.take(folder / f"{number}.lock") is not None)
    values.ValueClass = MultiProcessValue(lambda: number)


def observe(match: ResolverMatch | None, method: str, status: int, seconds: float) -> None:
    key = (match.route if match else None, method if method in METHODS else OTHER_METHOD, status)
    child = _children.get(key)
    if child is None:
        child = _children[key] = REQUESTS.labels(_name(key[0]), key[1], str(int(status)))
    child.observe(seconds)


def _name(route: str | None) -> str:
    """The route as people write it, `/applications/:token/chats`; the admin's many are one."""
    if route is None:
        return NO_ROUTE
    if route.startswith("admin/"):
        return "/admin"
    return "/" + re.sub(r"<\w+:(\w+)>", r":\1", route.rstrip("/"))
