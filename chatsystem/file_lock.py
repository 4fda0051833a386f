"""File locks that last as long as their process. The kernel releases a flock when its holder dies."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def take(path: Path) -> int | None:
    """Takes the lock of a file and returns the descriptor that holds it, or None when another process does.

    The descriptor is close-on-exec unless the caller makes it inheritable. The process's id is written to the file, for
    messages.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    return descriptor


@contextmanager
def held(path: Path) -> Iterator[bool]:
    """Holds the lock of a file for the block, and tells it whether it does: another process may hold the lock."""
    descriptor = take(path)
    try:
        yield descriptor is not None
    finally:
        if descriptor is not None:
            os.close(descriptor)


def holder(path: Path) -> str:
    """Returns the id of the process that took the lock last. Only for messages."""
    return path.read_text().strip() or "unknown"
