"""Puts the temporary files of the tests into memory. pyproject.toml loads this module with `-p`.

On a disk each write would wait, for nothing: tests kill processes, and that loses no written file. Benchmarks and
`make chaos` keep the disk, which the product has in service.
"""

import os
import tempfile
from pathlib import Path

#: The folder in memory. It is used if it has this many bytes left and allows programs.
MEMORY, ROOM = Path("/dev/shm"), 8 * 1024**3

if "TMPDIR" not in os.environ and MEMORY.is_dir():
    disk = os.statvfs(MEMORY)
    if disk.f_bavail * disk.f_frsize >= ROOM and not disk.f_flag & getattr(os, "ST_NOEXEC", 0):
        os.environ["TMPDIR"] = tempfile.tempdir = str(MEMORY)
