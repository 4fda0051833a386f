"""What a benchmark consists of: rounds, and a bound.

A round has a figure of the product and, if there is a reference, a figure of that, taken one after the other.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

PER_SECOND, SECONDS, MILLISECONDS, MEGABYTES, KILOBYTES = "/s", "s", "ms", "MB", "KB"
Ours = TypeVar("Ours")
Theirs = TypeVar("Theirs")


@dataclass(frozen=True, slots=True)
class Round:
    ours: float
    theirs: float | None = None

    @property
    def value(self) -> float:
        return self.ours if self.theirs is None else self.ours / self.theirs


@dataclass(slots=True)
class Measure:
    """A benchmark. It passes if the median of its rounds is at least the bound, or at most the bound."""

    name: str
    #: The unit of a round's figures. The ratio of two figures has none.
    unit: str
    bound: float
    at_least: bool = True
    reference: str = ""
    rounds: list[Round] = field(default_factory=list)

    @property
    def values(self) -> list[float]:
        return [round.value for round in self.rounds]

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def reached(self) -> bool:
        return self.median >= self.bound if self.at_least else self.median <= self.bound


def alternating(turn: int, ours: Callable[[], Ours], theirs: Callable[[], Theirs]) -> tuple[Ours, Theirs]:
    """Runs both, alternating which goes first: the first one may pay for what ran before."""
    if turn % 2:
        of_theirs = theirs()
        return ours(), of_theirs
    return ours(), theirs()
