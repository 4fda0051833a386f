"""Probes of several dependencies at once, with one deadline. A dependency that hangs does not delay the others."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from threading import Thread
from typing import TypeVar

from django.db import connections

T = TypeVar("T")


def probe_all(probes: Mapping[str, Callable[[], T]], seconds: float) -> dict[str, T | Exception]:
    """Returns what each probe returned or raised, or TimeoutError for one that took longer than `seconds`."""
    answers: dict[str, T | Exception] = {}

    def answer(name: str) -> None:
        try:
            answers[name] = probes[name]()
        except Exception as error:  # it concerns this dependency only
            answers[name] = error
        finally:
            connections.close_all()

    # Daemon threads: one that hangs must not keep the process from exiting.
    threads = [Thread(target=answer, args=[name], daemon=True) for name in probes]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + seconds
    for thread in threads:
        thread.join(max(deadline - time.monotonic(), 0))
    return {name: answers.get(name, TimeoutError()) for name in probes}
