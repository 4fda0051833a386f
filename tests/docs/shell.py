"""One shell for a whole page: variables and functions stay from block to block."""

from __future__ import annotations

import subprocess
from pathlib import Path

#: Printed on its own line after the output of each block.
END = "-- the end --"


class Shell:
    def __init__(self, folder: Path, environ: dict[str, str], cwd: Path) -> None:
        self.script = folder / "block.sh"
        self.process = subprocess.Popen(
            # A failing command ends the shell: a reader would see the error and stop.
            ["bash", "-e", "-o", "pipefail"],
            cwd=cwd,
            env=environ,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def type(self, block: str) -> str:
        """Runs a block and returns its output. Fails if a command fails."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.script.write_text(block)
        # From a file, so that no command reads the next block as its input.
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
