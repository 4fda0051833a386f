"""Health for load balancers and people. Documented in docs/operations.md."""

from __future__ import annotations

from collections.abc import Callable

from django.db import connection
from django.http import JsonResponse
from django.utils.module_loading import import_string
from rest_framework.decorators import api_view
from rest_framework.request import Request

from chatsystem.asking import ask
from chatsystem.writelog import log, vitals

OK = "ok"
#: It works, and somebody should look at it.
DEGRADED = "degraded: "
DOWN = "down: "

#: Seconds within which readiness is told: a load balancer takes one that is slow to answer for one that is down.
PATIENCE = 2.0

# Views of DRF, so that their errors are JSON too: Django's 405 is empty, and its CSRF refusal HTML.


@api_view(["GET", "HEAD"])
def live(request: Request) -> JsonResponse:
    return JsonResponse({"status": "ok"})


@api_view(["GET", "HEAD"])
def ready(request: Request) -> JsonResponse:
    """200 while writes are accepted; each dependency with its state, and no address or secret."""
    states = dependencies()
    # Writes need the state Redis and nothing else; the rest follows when it is back.
    accepting = not states["state"].startswith(DOWN)
    status = "unavailable" if not accepting else "ok" if set(states.values()) == {OK} else "degraded"
    response = JsonResponse({"status": status, "dependencies": states}, status=200 if accepting else 503)
    if not accepting:
        response["Retry-After"] = "1"
    return response


def dependencies() -> dict[str, str]:
    """Each one's state: OK, or DEGRADED or DOWN and why."""
    questions: dict[str, Callable[[], str]] = {
        "state": _state,
        "database": _database,
        "search": _search,
        "workers": _workers,
    }
    answers = ask({**questions, "halted": _halted}, PATIENCE)
    states = {name: _told(answers[name]) for name in questions}
    # The state Redis knows it, of the database.
    if states["database"] == OK and not isinstance(answers["halted"], Exception):
        states["database"] = answers["halted"]
    return states


def _told(answer: str | Exception) -> str:
    return f"{DOWN}{reason(answer)}" if isinstance(answer, Exception) else answer


def reason(error: Exception) -> str:
    """The kind of an error, its number if it has one, and the kind of its cause: their words may hold an address."""
    number = f" {error.args[0]}" if error.args and isinstance(error.args[0], int) else ""
    cause = type(error.__cause__).__name__ if error.__cause__ else ""
    name = type(error).__name__
    return f"{name}{number}" + (f" ({cause})" if cause not in ("", name) else "")


def _state() -> str:
    vitals.probe()
    hazards = vitals.hazards()
    return f"{DEGRADED}can lose what it acknowledged: {'; '.join(hazards)}" if hazards else OK


def _database() -> str:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    return OK


def _halted() -> str:
    halted = log.halted()
    return f"{DEGRADED}older than it was: {len(halted)} partitions are halted" if halted else OK


def _search() -> str:
    ping_search()
    return OK


def ping_search() -> None:
    # Named by string, like all wiring: imports run from the search room to this one.
    import_string("search.backends.get_backend")().ping()


def _workers() -> str:
    vitals.expect_workers()
    return OK
