"""A shell as somebody has it open who reads along, in which variables and functions stay."""

from __future__ import annotations

import subprocess
from pathlib import Path

#: Stands alone in a line of its own after what a block has printed.
END = "-- the end --"


class Shell:
    def __init__(self, folder: Path, environ: dict[str, str], cwd: Path) -> None:
        self.script = folder / "block.sh"
        self.process = subprocess.Popen(
            # A command that fails ends it: no block may go on over an error that a reader would see.
            ["bash", "-e", "-o", "pipefail"],
            cwd=cwd,
            env=environ,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def type(self, block: str) -> str:
        """What it prints. Fails when a command does."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.script.write_text(block)
        # From a file, so that no command takes the next block for its input.
        self.process.stdin.write(f". '{self.script}' < /dev/null; echo; echo '{END}'\n")
        self.process.stdin.flush()
        printed = ""
        for line in self.process.stdout:
            if line.rstrip("\n") == END:
                return printed
            printed += line
        raise AssertionError(f"it failed:\n{block}\nafter it had printed:\n{printed}")

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()
