"""Probes of several dependencies at once, with one deadline. A dependency that hangs does not delay the others."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Mapping
from threading import Lock, Thread
from typing import TypeVar

from django.db import connections

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")

#: Threads of one probe that may outlive their deadline. As many as a web process has for requests.
MOST_LATE = 8


class Probes:
    """Runs probes in threads. Probes that are run again and again share an instance, which counts late threads."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._late: dict[Hashable, list[Thread]] = {}

    def run(self, probes: Mapping[K, Callable[[], T]], seconds: float) -> dict[K, T | Exception]:
        """Returns what each probe returned or raised, or TimeoutError for one that took longer than `seconds`.

        Does not start a probe of which MOST_LATE threads still hang, so that they do not pile up: it counts as late.
        """
        answers: dict[K, T | Exception] = {}

        def answer(name: K) -> None:
            try:
                answers[name] = probes[name]()
            except Exception as error:  # it concerns this dependency only
                answers[name] = error
            finally:
                connections.close_all()

        # Daemon threads: one that hangs must not keep the process from exiting.
        threads = {name: Thread(target=answer, args=[name], daemon=True) for name in probes if self._may_start(name)}
        for thread in threads.values():
            thread.start()
        deadline = time.monotonic() + seconds
        for name, thread in threads.items():
            thread.join(max(deadline - time.monotonic(), 0))
            if thread.is_alive():
                with self._lock:
                    self._late.setdefault(name, []).append(thread)
        return {name: answers.get(name, TimeoutError()) for name in probes}

    def _may_start(self, name: Hashable) -> bool:
        with self._lock:
            late = [thread for thread in self._late.pop(name, ()) if thread.is_alive()]
            if late:
                self._late[name] = late
            return len(late) < MOST_LATE
