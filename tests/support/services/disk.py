"""A small disk that tests can fill up."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from tests.support.services.packages import Missing


class Disk:
    """A tmpfs at `folder`. Raises `packages.Missing` when mounting is not allowed."""

    SIZE = "2g"
    #: Free bytes of a nearly full disk.
    REST = 256 * 1024

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True)
        mounting = ["mount", "-t", "tmpfs", "-o", f"size={self.SIZE},mode=700", "tests", str(folder)]
        if subprocess.run(mounting, capture_output=True).returncode:
            raise Missing("a disk that can be full needs the right to mount one (root)")

    def fill(self) -> None:
        """Fills the disk: shrinks it to what is in use."""
        found = os.statvfs(self.folder)
        # Leaves a rest: the remount fails if more is in use by then.
        self._resize(str((found.f_blocks - found.f_bfree) * found.f_frsize + self.REST))

    def free(self) -> None:
        self._resize(self.SIZE)

    def unmount(self) -> None:
        subprocess.run(["umount", str(self.folder)], check=True)

    def _resize(self, size: str) -> None:
        subprocess.run(["mount", "-o", f"remount,size={size}", str(self.folder)], check=True)
