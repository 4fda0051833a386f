"""A wall clock that tests can move, for processes that are started with its environment."""

from __future__ import annotations

import struct
import subprocess
from pathlib import Path

from tests.support.services import packages

SOURCE = Path(__file__).with_name("clock.c")


class WallClock:
    """A clock that is right until it is moved. Raises `packages.Missing` without a C compiler."""

    def __init__(self, folder: Path) -> None:
        packages.ensure(["gcc"], "gcc", "libc6-dev")
        folder.mkdir(parents=True, exist_ok=True)
        self._library, self._offset = folder / "clock.so", folder / "offset"
        subprocess.run(["gcc", "-O2", "-shared", "-fPIC", "-o", str(self._library), str(SOURCE)], check=True)
        self._offset.write_bytes(struct.pack("l", 0))

    def environ(self) -> dict[str, str]:
        return {"LD_PRELOAD": str(self._library), "CLOCK_OFFSET_FILE": str(self._offset)}

    def move(self, seconds: int) -> None:
        """Moves the clock ahead of the right time by `seconds`, or behind it when negative."""
        # Written in place, since the processes have mapped the file.
        with self._offset.open("r+b") as file:
            file.write(struct.pack("l", seconds))
