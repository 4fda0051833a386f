"""A small disk of the tests' own that can be full."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from tests.services.packages import Missing


class Disk:
    """A tmpfs at `folder`. Raises `packages.Missing` where mounting is not allowed."""

    SIZE = "2g"
    #: Bytes that a disk which is about to be full has left.
    REST = 256 * 1024

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True)
        mounting = ["mount", "-t", "tmpfs", "-o", f"size={self.SIZE},mode=700", "tests", str(folder)]
        if subprocess.run(mounting, capture_output=True).returncode:
            raise Missing("a disk that can be full needs the right to mount one (root)")

    def fill(self) -> None:
        """From now on it has next to no room: it shrinks to what is in use."""
        found = os.statvfs(self.folder)
        # With a rest, since more may be in use by the time that it shrinks, and then it would not.
        self._resize(str((found.f_blocks - found.f_bfree) * found.f_frsize + self.REST))

    def free(self) -> None:
        self._resize(self.SIZE)

    def unmount(self) -> None:
        subprocess.run(["umount", str(self.folder)], check=True)

    def _resize(self, size: str) -> None:
        subprocess.run(["mount", "-o", f"remount,size={size}", str(self.folder)], check=True)
