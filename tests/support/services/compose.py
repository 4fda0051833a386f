"""Docker Compose, which checks Compose files without an engine.

Where Docker has no such plugin, Go builds it: some minutes once, then it stays in the user's cache. `go install`
refuses, because its go.mod excludes versions of other modules.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from tests.support.services.debian import CACHE
from tests.support.services.packages import Missing, one_at_a_time

MODULE = "github.com/docker/compose/v2@v2.40.3"


def command() -> list[str]:
    """Returns the command line of Compose, and builds it if necessary. Raises Missing."""
    if shutil.which("docker") and not subprocess.run(["docker", "compose", "version"], capture_output=True).returncode:
        return ["docker", "compose"]
    program = CACHE / "bin" / "docker-compose"
    with one_at_a_time("compose"):
        if not program.exists():
            _build(program)
    return [str(program)]


def _build(program: Path) -> None:
    go = shutil.which("go", path=os.pathsep.join([os.environ["PATH"], "/usr/local/go/bin"]))
    if go is None:
        raise Missing("docker compose not found, and no Go to build it: install Docker Compose 2")
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "source"
        try:
            module = subprocess.run(
                [go, "mod", "download", "-json", MODULE], cwd=folder, capture_output=True, text=True, check=True
            )
            shutil.copytree(json.loads(module.stdout)["Dir"], source)
            subprocess.run(["chmod", "-R", "u+w", source], check=True)
            subprocess.run([go, "build", "-o", program, "./cmd"], cwd=source, capture_output=True, check=True)
        except subprocess.CalledProcessError as error:
            raise Missing(f"docker compose not found, and it cannot be built: {error.stderr[-500:]!r}") from None
