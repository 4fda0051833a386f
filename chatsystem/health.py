"""Health for load balancers and people. Documented in docs/operations.md."""

from __future__ import annotations

from collections.abc import Callable

from django.db import connection
from django.http import JsonResponse
from django.utils.module_loading import import_string
from rest_framework.decorators import api_view
from rest_framework.request import Request

from chatsystem.writelog import log

# Views of DRF, so that their errors are JSON too: Django's 405 is empty, and its CSRF refusal HTML.


@api_view(["GET", "HEAD"])
def live(request: Request) -> JsonResponse:
    return JsonResponse({"status": "ok"})


@api_view(["GET", "HEAD"])
def ready(request: Request) -> JsonResponse:
    """200 while writes are accepted; each dependency with its state, and no address or secret."""
    states = {
        "state": _state(log.probe),
        "database": _state(_database),
        "search": _state(_search),
        "workers": _state(log.expect_workers),
    }
    # Writes need the state Redis and nothing else; the rest follows when it is back.
    accepting = states["state"] == "ok"
    if accepting and (hazards := log.hazards()):
        states["state"] = f"can lose what it acknowledged: {'; '.join(hazards)}"
    if accepting and (halted := log.halted()):
        states["database"] = f"older than it was: {len(halted)} partitions are halted"
    degraded = any(state != "ok" for state in states.values())
    status = "unavailable" if not accepting else "degraded" if degraded else "ok"
    response = JsonResponse({"status": status, "dependencies": states}, status=200 if accepting else 503)
    if not accepting:
        response["Retry-After"] = "1"
    return response


def _state(check: Callable[[], None]) -> str:
    try:
        check()
    except Exception as error:  # whatever it is, this dependency is not ready, and the others still are to be looked at
        return type(error).__name__
    return "ok"


def _database() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")


def _search() -> None:
    # Named by string, like all wiring: imports run from the search room to this one.
    import_string("search.backends.get_backend")().ping()
