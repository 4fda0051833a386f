"""Questions to several dependencies at once: one that is silent holds up nobody's answer."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from threading import Thread
from typing import TypeVar

from django.db import connections

T = TypeVar("T")


def ask(questions: Mapping[str, Callable[[], T]], seconds: float) -> dict[str, T | Exception]:
    """What each returned or raised; TimeoutError for one that has not answered when `seconds` are over."""
    answers: dict[str, T | Exception] = {}

    def answer(name: str) -> None:
        try:
            answers[name] = questions[name]()
        except Exception as error:  # whatever it is, it is about this one
            answers[name] = error
        finally:
            connections.close_all()

    # Daemons: one that still waits for a silent server does not keep its process from ending.
    threads = [Thread(target=answer, args=[name], daemon=True) for name in questions]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + seconds
    for thread in threads:
        thread.join(max(deadline - time.monotonic(), 0))
    return {name: answers.get(name, TimeoutError()) for name in questions}
