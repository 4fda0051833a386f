"""Jobs that packages offer on the operations page of the admin. Documented in docs/operations.md."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from django.dispatch import Signal

#: Sent at intervals between two steps of a job. A job occupies the one worker process for slow tasks, so receivers do
#: the work that must not wait for the job to end.
job_stepped = Signal()


class Progress(Protocol):
    """Called with the size of each finished step. `total` is the sum of all steps, if known."""

    total: int | None

    def __call__(self, step: int) -> None: ...


@dataclass(frozen=True, slots=True)
class Job:
    name: str
    #: The text of the button.
    label: str
    #: One sentence beside the button.
    does: str
    #: A warning to confirm on a separate page. If empty, the job starts at once.
    warning: str
    #: The permissions that a user needs.
    permissions: Callable[[], Sequence[str]]
    #: Does the work, and returns the outcome as a sentence.
    run: Callable[[Progress], str]
