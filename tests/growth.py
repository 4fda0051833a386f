"""How the time of a computation grows with its input: a ratio within one run, so that no machine is too slow for it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

Given = TypeVar("Given")


def growth(compute: Callable[[Given], object], small: Given, large: Given) -> float:
    """How many times as long `large` takes: the shortest of three tries each, in this thread's processor time.

    A collection of garbage that falls into a try counts in that one alone.
    """

    def shortest(given: Given) -> float:
        tries = []
        for _ in range(3):
            began = time.thread_time()
            compute(given)
            tries.append(time.thread_time() - began)
        return min(tries)

    return shortest(large) / shortest(small)
