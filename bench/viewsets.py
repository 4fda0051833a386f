"""Measures what the shortcuts of `EntityViewSet` save. Prints the figures of docs/decisions.md.

    .venv/bin/python -m bench.viewsets [--rounds 60]

Calls the WSGI application in this process, without a server or a network, and measures the CPU time of this process.
Each variant undoes one shortcut. The variants alternate, and each is compared with the first of the same round. Then a
process of its own for each variant posts batches, and prints the peak of its memory.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from statistics import median
from typing import Any

# Room in the log for all batches.
os.environ.update(DATABASE="sqlite", WRITE_LOG_MAX_EVENTS="100000", WRITE_LOG_MAX_BYTES="200000000")

from bench.sizes import state

AS_IT_IS, CYCLES = "as it is", "cycles left to the collector"
METHODS = ("validated", "represent", "represent_all", "dispatch")
ORIGINAL: dict[str, Callable] = {}
BATCHES = 20
#: Requests of one turn.
KINDS = {"POST": 20, "GET": 20, "page of 50": 8, "page of 1,000": 1}


def call(method: str, path: str, body: object = None) -> bytes:
    from chatsystem.wsgi import application

    path, _, query = path.partition("?")
    data = json.dumps(body).encode()
    environ = {
        "REQUEST_METHOD": method,
        "PATH_INFO": path,
        "QUERY_STRING": query,
        "SERVER_NAME": "localhost",
        "SERVER_PORT": "80",
        "CONTENT_TYPE": "application/json",
        "CONTENT_LENGTH": str(len(data)),
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(data),
        "wsgi.errors": sys.stderr,
    }
    answered = []
    response: Any = application(environ, lambda status, headers, exc_info=None: answered.append(status))
    content = b"".join(response)
    response.close()
    assert answered[0].startswith("20"), (answered, content)
    return content


def variants() -> dict[str, dict[str, Callable]]:
    """Returns the replaced methods of each variant."""
    from rest_framework.viewsets import ViewSet

    def is_valid(view: Any, request: Any) -> Any:
        serializer = view.serializer_class(data=request.data)
        serializer.is_valid(raise_exception=True)
        return serializer.validated_data

    return {
        AS_IT_IS: {},
        "as it is, again": {},
        "a serializer for each request": {
            "validated": is_valid,
            "represent": lambda view, entity: view.serializer_class(entity).data,
        },
        "pages entity by entity": {
            "represent_all": lambda view, entities: [view.serializer.to_representation(each) for each in entities]
        },
        CYCLES: {"dispatch": lambda *args, **kwargs: ViewSet.dispatch(*args, **kwargs)},
    }


def use(variant: str) -> None:
    from chatsystem.api.viewsets import EntityViewSet

    for method, function in (ORIGINAL | variants()[variant]).items():
        setattr(EntityViewSet, method, function)


def create_chat() -> str:
    """Creates a chat. Returns the path of its messages."""
    token = json.loads(call("POST", "/applications", {"name": "bench"}))["token"]
    call("POST", f"/applications/{token}/chats", {"title": "bench"})
    return f"/applications/{token}/chats/1/messages"


def measure_cpu(rounds: int) -> None:
    from rest_framework.response import Response

    import messages_app.views
    from bench.internals import drain_application

    # Computes each page anew.
    messages_app.views.cached_response = lambda request, version, answer: Response(answer())
    path = create_chat()
    call("POST", path, [{"body": "x" * 80}] * 1_000)
    requests = {
        "POST": lambda: call("POST", path, {"body": "x" * 80}),
        "GET": lambda: call("GET", f"{path}/7"),
        "page of 50": lambda: call("GET", f"{path}?limit=50"),
        "page of 1,000": lambda: call("GET", f"{path}?limit=1000&before=1001"),
    }
    for kind, times in KINDS.items():
        drain_application(path.split("/")[2])
        took: dict[str, list[float]] = {name: [] for name in variants()}
        for number in range(rounds):
            names = list(took)
            for name in names[number % len(names) :] + names[: number % len(names)]:
                use(name)
                began = time.process_time()
                for _ in range(times):
                    requests[kind]()
                took[name].append((time.process_time() - began) / times)
        print(f"\n{kind}: {median(took[AS_IT_IS]) * 1e6:,.0f} µs of CPU", flush=True)
        for name, seconds in took.items():
            ratio = median(one / other for one, other in zip(seconds, took[AS_IT_IS], strict=True))
            print(f"  {name:32} {100 * (ratio - 1):+6.1f} %", flush=True)


def measure_peak(variant: str) -> None:
    use(variant)
    path = create_chat()
    for _ in range(BATCHES):
        call("POST", path, [{"body": "x" * 4_000}] * 1_000)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(f"  {variant:32} {peak:6} MB", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--peak", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    with state():
        from django.core.management import call_command

        from chatsystem.api.viewsets import EntityViewSet
        from chatsystem.writelog import ownership
        from chatsystem.writelog.keys import PARTITIONS

        ORIGINAL.update({name: vars(EntityViewSet)[name] for name in METHODS})
        call_command("migrate", verbosity=0)
        ownership.confirm(range(PARTITIONS))
        if arguments.peak:
            measure_peak(arguments.peak)
            return
        measure_cpu(arguments.rounds)
    print(f"\n{BATCHES} batches of 4 MB, peak of the memory", flush=True)
    # As chatsystem/embedded/launch.py sets them.
    malloc = {"MALLOC_ARENA_MAX": "2", "MALLOC_MMAP_THRESHOLD_": "131072"}
    for variant in (AS_IT_IS, CYCLES):
        subprocess.run(
            [sys.executable, "-m", "bench.viewsets", "--peak", variant], env={**os.environ, **malloc}, check=True
        )


if __name__ == "__main__":
    main()
