"""Locks that say "in use" exactly as long as a process lives: the kernel lets go of a flock when its holder dies."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path


def take(path: Path) -> int | None:
    """Takes the lock of a file and writes this process's id into it, for people; None when somebody holds it.

    Returns the descriptor that holds the lock; close-on-exec, unless the caller makes it inheritable.
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


def holder(path: Path) -> str:
    """The process id that the last taker wrote; only for messages."""
    return path.read_text().strip() or "unknown"
