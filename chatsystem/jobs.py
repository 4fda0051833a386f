"""Work that a person starts in the admin and watches: what a room offers of it. Documented in docs/operations.md."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol


class Progress(Protocol):
    """Called with how much more is done. `total` is what all of it will be, where that is known."""

    total: int | None

    def __call__(self, step: int) -> None: ...


@dataclass(frozen=True, slots=True)
class Job:
    name: str
    #: On the button.
    label: str
    #: What it will do.
    does: str
    #: What there is to think of before, asked on a page of its own. Empty: it starts at once.
    warning: str
    #: All that a user must have.
    permissions: Callable[[], Sequence[str]]
    #: Does it, and returns what came of it.
    run: Callable[[Progress], str]
