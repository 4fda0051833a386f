"""Measures how the time of a computation grows with its input. The ratio does not depend on the machine's speed."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

Given = TypeVar("Given")


def growth(compute: Callable[[Given], object], small: Given, large: Given) -> float:
    """Returns how many times as long `large` takes, by the shortest of three tries in this thread's processor time.

    Three tries, since a garbage collection may fall into one.
    """

    def shortest(given: Given) -> float:
        tries = []
        for _ in range(3):
            began = time.thread_time()
            compute(given)
            tries.append(time.thread_time() - began)
        return min(tries)

    return shortest(large) / shortest(small)
