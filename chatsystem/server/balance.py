"""Balances kept connections over the web processes of one gunicorn. Measured in docs/decisions.md.

All processes wait at one socket, so one of them may accept every connection. A process computes on one core; the other
cores would then idle as long as the clients keep their connections.
"""

from __future__ import annotations

import mmap

#: More slots than there are processes at once, including those that are about to end.
SLOTS = 256
#: For each process: 1 + the connections that it holds, or 0 when it accepts none. The master maps the memory, so its
#: forks share it. Each process writes to its own slot only.
_held = memoryview(mmap.mmap(-1, 4 * SLOTS)).cast("i")


def report(process: int, connections: int | None) -> None:
    """Stores how many connections a process holds, or None when it accepts none.

    `process` is gunicorn's `age` of the worker: 1, 2, 3 … in the order of their start.
    """
    _held[process % SLOTS] = 0 if connections is None else connections + 1


def is_another_freer(process: int) -> bool:
    """Returns whether a process that accepts connections holds fewer than this one."""
    mine = _held[process % SLOTS]
    return any(0 < held < mine for held in _held)
