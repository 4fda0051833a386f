"""Positions of readers in the order of a partition's events. Clients see them as opaque text."""

from __future__ import annotations

import re
from dataclasses import dataclass

#: A position as text. Both numbers fit into 63 bits.
WRITTEN = re.compile(r"(0|[1-9]\d{0,17})-(0|[1-9]\d{0,17})", re.ASCII)


@dataclass(frozen=True, slots=True)
class Position:
    """All events of the term up to this arrival, in microseconds, were seen (terms.py)."""

    term: int
    arrival: int

    @classmethod
    def parse(cls, text: str) -> Position:
        """Raises ValueError for anything that is not a position."""
        if not (found := WRITTEN.fullmatch(text)):
            raise ValueError("not a position")
        return cls(int(found[1]), int(found[2]))

    def __str__(self) -> str:
        return f"{self.term}-{self.arrival}"
