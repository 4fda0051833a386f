"""Processes that end when their parent does, however that one ended."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

#: linux/prctl.h
PR_SET_PDEATHSIG = 1


def end_with_parent(with_signal: signal.Signals, parent: int | None = None) -> None:
    """The kernel sends `with_signal` to this process when its parent dies; exec keeps that, fork does not.

    `parent` is the process id that the caller knows its parent by, if it does. A parent that died before this call is
    noticed by it: the kernel tells of later deaths only.
    """
    expected = os.getppid() if parent is None else parent
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, with_signal) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    if os.getppid() != expected:
        sys.exit("The process that started this one is gone.")
