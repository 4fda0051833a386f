"""A wall clock that the tests move, for the processes that are started with its environment."""

from __future__ import annotations

import struct
import subprocess
from pathlib import Path

from tests.services import packages

SOURCE = Path(__file__).with_name("clock.c")


class WallClock:
    """Right until it is moved. Raises `packages.Missing` where there is no C compiler."""

    def __init__(self, folder: Path) -> None:
        packages.ensure(["gcc"], "gcc", "libc6-dev")
        folder.mkdir(parents=True, exist_ok=True)
        self._library, self._offset = folder / "clock.so", folder / "offset"
        subprocess.run(["gcc", "-O2", "-shared", "-fPIC", "-o", str(self._library), str(SOURCE)], check=True)
        self._offset.write_bytes(struct.pack("l", 0))

    def environ(self) -> dict[str, str]:
        return {"LD_PRELOAD": str(self._library), "CLOCK_OFFSET_FILE": str(self._offset)}

    def move(self, seconds: int) -> None:
        """Has the clock be `seconds` ahead of the right time, or behind it, from now on."""
        # In place: the processes have the file mapped.
        with self._offset.open("r+b") as file:
            file.write(struct.pack("l", seconds))
