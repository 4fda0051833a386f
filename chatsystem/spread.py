"""How connections spread over the web processes of one gunicorn. Documented in docs/capacity.md.

All of them wait at one socket, and whoever wakes up first takes what comes, and may take all of it. A process computes
on one core: of a few connections that stay, as a proxy's do, the other cores would have nothing.
"""

from __future__ import annotations

import mmap

#: More than there are processes at once, those that are about to end included.
SLOTS = 256
#: One more than the connections that a process holds, 0 where there is none that takes any. Made in the master, so that
#: those which it forks share it. Each writes to its own.
_held = memoryview(mmap.mmap(-1, 4 * SLOTS)).cast("i")


def tell(process: int, connections: int | None) -> None:
    """`process` is gunicorn's number for a worker: the next one's is one higher. None when it takes no connections."""
    _held[process % SLOTS] = 0 if connections is None else connections + 1


def is_another_freer(process: int) -> bool:
    """Whether one that takes connections holds fewer."""
    mine = _held[process % SLOTS]
    return any(0 < held < mine for held in _held)
