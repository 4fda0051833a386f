"""Liveness and readiness. Documented in docs/operations.md."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from django.db import OperationalError, connection
from django.db.models import F
from django.http import JsonResponse
from rest_framework.decorators import api_view
from rest_framework.request import Request

from chatsystem.monitoring import hosts
from chatsystem.probes import Probes
from chatsystem.search_interface import search
from chatsystem.writelog import live_stats, ownership, redis_client, redis_guards, rollback_guard, stats
from chatsystem.writelog.database_errors import number
from chatsystem.writelog.exceptions import NotPermitted
from chatsystem.writelog.keys import PARTITIONS
from chatsystem.writelog.models import Partition

OK = "ok"
#: It works, but needs attention.
DEGRADED = "degraded: "
DOWN = "down: "
#: The status while no write is accepted.
UNAVAILABLE = "unavailable"

#: Seconds until readiness answers. A load balancer treats a slow answer as down.
PATIENCE = 2.0

_probes = Probes()

#: Error numbers of a MySQL or MariaDB server that answers but stores nothing.
STORES_NOTHING: dict[object, str] = {
    1047: "the server has no quorum",  # a node of a Galera cluster
    1290: "the server is read-only",
    1836: "the server is read-only",
}

# DRF views, so that their errors are JSON. Django's own 405 is empty, and its CSRF error is HTML.


@api_view(["GET", "HEAD"])
def live(request: Request) -> JsonResponse:
    """Says that the process answers.

    It checks no dependency. For supervisors that restart processes.
    """
    return JsonResponse({"status": "ok"})


@api_view(["GET", "HEAD"])
def ready(request: Request) -> JsonResponse:
    """Says whether writes are accepted, and lists each dependency with its state.

    For load balancers and people. It names no addresses or secrets.
    """
    status, states = readiness()
    accepting = status != UNAVAILABLE
    response = JsonResponse({"status": status, "dependencies": states}, status=200 if accepting else 503)
    if not accepting:
        response["Retry-After"] = "1"
    return response


def readiness() -> tuple[str, dict[str, str]]:
    """Returns the status, "ok", "degraded" or UNAVAILABLE, and each dependency's state."""
    states = dependencies()
    # Writes need only the state Redis. The rest catches up when it is back.
    if states["state"].startswith(DOWN):
        return UNAVAILABLE, states
    return "ok" if set(states.values()) == {OK} else "degraded", states


def dependencies() -> dict[str, str]:
    """Returns each dependency's state: OK, or DEGRADED or DOWN with the reason."""
    probes: dict[str, Callable[[], str]] = {
        "state": _state,
        "database": _database,
        "search": _search,
        "workers": _workers,
        "live": _live,
    }
    more = {"halted": _halted, "superseded": _superseded, "flag": _flagged_as_superseded, "hosts": _hosts}
    answers = _probes.run({**probes, **more}, PATIENCE)
    states = {name: _state_of(answers[name]) for name in probes}
    # The state Redis holds this part of the database's state.
    if states["database"] == OK and not isinstance(answers["halted"], Exception):
        states["database"] = answers["halted"]
    # The database says whether this Redis is superseded. Redis also has a flag of its own. The flag counts while the
    # database is down. It is cleared a moment after the database has changed; until then Redis answers no request.
    for superseded in (answers["flag"], answers["superseded"]):
        if superseded and not isinstance(superseded, Exception):
            states["state"] = _together(states["state"], superseded)
            break
    # Listed only if there is a problem. Most installations have one host.
    if answers["hosts"] != OK and not isinstance(answers["hosts"], Exception):
        states["hosts"] = answers["hosts"]
    return states


def _together(state: str, superseded: str) -> str:
    """Returns both reasons, or only the one that stops all writes."""
    if state == OK or superseded.startswith(DOWN):
        return superseded
    return state if state.startswith(DOWN) else f"{state}; {superseded.removeprefix(DEGRADED)}"


def _state_of(answer: str | Exception) -> str:
    return f"{DOWN}{reason(answer)}" if isinstance(answer, Exception) else answer


def reason(error: Exception) -> str:
    """Returns an error's class and number, and the class of its cause. Its message could contain an address.

    The message of `NotPermitted` is our own, and is returned.
    """
    if isinstance(error, NotPermitted):
        return str(error)
    number = f" {error.args[0]}" if error.args and isinstance(error.args[0], int) else ""
    cause = type(error.__cause__).__name__ if error.__cause__ else ""
    name = type(error).__name__
    return f"{name}{number}" + (f" ({cause})" if cause not in ("", name) else "")


def _state() -> str:
    servers = redis_client.labelled_groups()
    answers = redis_client.ask_each(servers, stats.probe)
    down = {label: answer for label, answer in answers.items() if isinstance(answer, Exception)}
    if len(down) == len(servers):
        raise next(iter(down.values()))
    if down:
        named = ", ".join(f"{label} ({reason(error)})" for label, error in down.items())
        refused = sum(len(servers[label]) for label in down)
        return f"{DEGRADED}{named} is down: {refused} of {PARTITIONS} partitions accept no write"
    hazards = stats.hazards()
    if not hazards:
        return OK
    can = "can" if not all(hazard.remedy for hazard in hazards) else "may"
    return f"{DEGRADED}{can} lose what it acknowledged: {'; '.join(hazard.text for hazard in hazards)}"


def _database() -> str:
    """Probes with a write that changes nothing. A server that stores nothing still answers SELECT 1."""
    partitions = Partition.objects.filter(pk=PARTITIONS)
    try:
        if connection.vendor == "mysql":
            # There is no such row. A read-only server rejects the statement before it looks.
            partitions.update(drained_through=F("drained_through"))
        else:
            # SQLite has one write lock. A drain may hold it longer than readiness may take.
            partitions.exists()
    except OperationalError as error:
        if why := STORES_NOTHING.get(number(error)):
            return f"{DOWN}{why} ({number(error)})"
        raise
    return OK


def _halted() -> str:
    halted = redis_client.of_reachable(rollback_guard.halted)
    return f"{DEGRADED}older than it was: {len(halted)} partitions are halted" if halted else OK


def _superseded() -> str:
    return _report_superseded(redis_client.of_reachable(_owned_by_another))


def _owned_by_another(partitions: Sequence[int]) -> list[bool]:
    superseded = ownership.superseded(partitions)
    return [partition in superseded for partition in partitions]


def _flagged_as_superseded() -> str:
    return _report_superseded(redis_client.of_reachable(_flagged))


def _flagged(partitions: Sequence[int]) -> list[bool]:
    superseded = redis_guards.superseded(partitions)
    return [partition in superseded for partition in partitions]


def _report_superseded(reachable: Sequence[bool]) -> str:
    """Reports those partitions of the servers that answer."""
    if not any(reachable):
        return ""
    if all(reachable):
        return f"{DOWN}{ownership.REASON}"
    return f"{DEGRADED}{ownership.REASON} for {sum(reachable)} of {PARTITIONS} partitions"


def _hosts() -> str:
    """Reports whether other hosts on this database are configured differently. Raises while the database is down."""
    hosts.show_up()
    names = [hosts.COMMON[name][0] for name in hosts.differences()]
    return f"{DEGRADED}another host on this database differs in {', '.join(names)}" if names else OK


def _search() -> str:
    search().ping()
    return OK


def _workers() -> str:
    stats.expect_workers()
    return OK


def _live() -> str:
    live_stats.expect_processes()
    return OK
