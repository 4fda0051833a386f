"""make creates .venv in spite of other tools' settings, and creates it again when it no longer runs."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

from tests.support.product import BASE_DIR

#: Variables that would install packages elsewhere, omit some, or load others.
FOREIGN = {
    "PIP_USER": "1",
    "PIP_NO_DEPS": "1",
    "PIP_REQUIRE_VIRTUALENV": "0",
    "PYTHONHOME": "/nowhere",
    "PYTHONPATH": "/nowhere",
    "PYTHONWARNINGS": "error",
}


class Checkout:
    """A folder with the Makefile, a small package, and a lock with it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "requirements").mkdir()
        shutil.copy(BASE_DIR / "Makefile", folder)
        shutil.copy(BASE_DIR / "requirements" / "installed.py", folder / "requirements")
        wheel = folder / "wheels" / "tiny-1.0-py3-none-any.whl"
        wheel.parent.mkdir()
        with zipfile.ZipFile(wheel, "w") as file:
            file.writestr("tiny.py", "")
            file.writestr("tiny-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n")
            file.writestr("tiny-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
            file.writestr("tiny-1.0.dist-info/RECORD", "")
        digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
        (folder / "requirements" / "embedded.lock").write_text(f"tiny==1.0 \\\n    --hash=sha256:{digest}\n")
        self.python = folder / ".venv" / "bin" / "python"

    def make(self, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["make", f"PYTHON={sys.executable}", ".venv/.embedded"],
            cwd=self.folder,
            env={
                "PATH": os.environ["PATH"],
                "HOME": str(self.folder),
                "PIP_NO_INDEX": "1",
                "PIP_FIND_LINKS": str(self.folder / "wheels"),
                **variables,
            },
            capture_output=True,
            text=True,
            timeout=240,
        )

    def has_the_package(self) -> bool:
        command = [self.python, "-I", "-c", "import tiny; print(tiny.__file__)"]
        run = subprocess.run(command, capture_output=True, text=True, check=False)
        return run.stdout.startswith(str(self.folder / ".venv"))


def test_it_is_created_in_spite_of_other_tools_and_repaired_when_broken(tmp_path: Path) -> None:
    checkout = Checkout(tmp_path)
    # Given variables and a pip configuration that point elsewhere, the package is installed in .venv;
    elsewhere = tmp_path / "elsewhere"
    (tmp_path / ".config" / "pip").mkdir(parents=True)
    (tmp_path / ".config" / "pip" / "pip.conf").write_text("[install]\nuser = true\n")
    made = checkout.make(**FOREIGN, PIP_TARGET=str(elsewhere), PIP_PREFIX="")
    assert made.returncode == 0, made.stderr
    assert checkout.has_the_package()
    assert not elsewhere.exists()

    # a lost package that an overriding configuration installs elsewhere is named with the remedy,
    for path in (checkout.folder / ".venv").rglob("tiny*"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    (tmp_path / "pip.conf").write_text(f"[install]\ntarget = {elsewhere}\n")
    made = checkout.make(PIP_CONFIG_FILE=str(tmp_path / "pip.conf"))
    assert made.returncode != 0
    assert "lacks packages that requirements/embedded.lock pins (tiny)" in made.stderr
    assert "pip config list" in made.stderr
    assert not checkout.has_the_package()
    # and is installed without that configuration;
    made = checkout.make()
    assert made.returncode == 0, made.stderr
    assert checkout.has_the_package()

    # and everything is created again when its Python is gone.
    checkout.python.unlink()
    checkout.python.symlink_to("/no/such/python")
    made = checkout.make()
    assert made.returncode == 0, made.stderr
    assert "creating it again" in made.stdout
    assert checkout.has_the_package()

    # A complete environment is not touched.
    assert "Installing" not in checkout.make().stdout
