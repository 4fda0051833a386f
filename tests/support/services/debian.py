"""Programs of another release of Debian, unpacked into a folder of their own and run there with their own loader."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.support.services import packages

#: What is kept between runs. SERVICES_CACHE sets another folder.
CACHE = Path(os.environ.get("SERVICES_CACHE") or Path.home() / ".cache" / "chatsystem")
#: apt's Debian mirror, in the old or the new format of its sources.
SOURCES = [Path("/etc/apt/sources.list"), *Path("/etc/apt/sources.list.d").glob("*")]
MIRROR = re.compile(r"^(?:URIs: *|deb +(?:\[[^]]*\] *)?)(https?://\S*/debian)/?(?:\s|$)", re.MULTILINE)


@dataclass(frozen=True)
class System:
    """A small Debian with one package. `name` is for people, and `folder` is in CACHE."""

    name: str
    release: str
    package: str
    folder: str

    @property
    def root(self) -> Path:
        return CACHE / self.folder

    def install(self) -> None:
        """Unpacks it unless that was done before. Raises `packages.Missing`."""
        with packages.one_at_a_time(self.folder):
            if not self.root.exists():
                self._unpack()

    def _unpack(self) -> None:
        if os.geteuid() != 0:
            raise packages.Missing(f"{self.name} is not unpacked in {self.root}: run this once as root")
        packages.ensure(["debootstrap"], "debootstrap")
        CACHE.mkdir(parents=True, exist_ok=True)
        draft = self.root.with_suffix(f".{os.getpid()}")
        log = draft.with_suffix(".log")
        command = ["debootstrap", "--variant=minbase", f"--include={self.package}", self.release, str(draft), _mirror()]
        with log.open("wb") as output:
            failed = subprocess.run(command, stdout=output, stderr=output, check=False).returncode
        if failed:
            shutil.rmtree(draft, ignore_errors=True)
            raise packages.Missing(f"{self.name} cannot be unpacked, see {log}")
        log.unlink()
        # Renamed into place, so that a killed run leaves no incomplete folder.
        draft.rename(self.root)

    def command(self, program: str) -> list[str]:
        """Returns the words that run a program, such as "bin/env" of /usr."""
        # No chroot: it would need root and tie the data to this folder.
        libraries = self.root / "usr/lib" / f"{platform.machine()}-linux-gnu"
        (loader,) = libraries.glob("ld-linux-*.so.*")
        return [str(loader), "--library-path", str(libraries), str(self.root / "usr" / program)]


def _mirror() -> str:
    for source in SOURCES:
        # Only regular source files, not disabled ones under another name.
        if source.suffix in (".list", ".sources") and source.is_file() and (found := MIRROR.search(source.read_text())):
            return found[1]
    raise packages.Missing("apt names no mirror of Debian, from which a server could be fetched")
