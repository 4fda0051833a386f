"""Ends a process when its parent ends for any reason (Linux's parent death signal)."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

#: linux/prctl.h
PR_SET_PDEATHSIG = 1


def end_with_parent(with_signal: signal.Signals, parent: int | None = None) -> None:
    """Makes the kernel send `with_signal` to this process when its parent dies. It survives exec, but not fork.

    `parent` is the parent's process id, if the caller knows it. The kernel only signals later deaths; the id shows that
    the parent died before this call.
    """
    expected = os.getppid() if parent is None else parent
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, with_signal) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    if os.getppid() != expected:
        sys.exit("The parent process is gone.")
