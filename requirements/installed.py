"""`python requirements/installed.py LOCK`: exits with 1 unless this Python has every package that the lock pins.

It names the missing packages, and where pip may have put them instead. It uses only the standard library.
"""

from __future__ import annotations

import re
import sys
from collections import defaultdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

#: A pin, and whether a condition follows it: a lock may pin a package once per Python version, or only for some.
PIN = re.compile(r"^([\w.-]+)(?:\[[\w,-]+\])?==([^\s;]+)( *;)?", re.MULTILINE)


def missing(lock: str) -> list[str]:
    pinned: dict[str, set[str | None]] = defaultdict(set)
    for name, pin, condition in PIN.findall(lock):
        pinned[name] |= {pin, None} if condition else {pin}
    return [name for name, pins in pinned.items() if installed(name) not in pins]


def installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def main() -> int:
    lock = Path(sys.argv[1])
    if found := missing(lock.read_text()):
        names = ", ".join(found[:3]) + (" and more" if found[3:] else "")
        print(
            f"make: {sys.prefix} lacks packages that {lock} pins ({names}). Remove `target`, `prefix` or `user` if "
            f"`{sys.executable} -m pip config list` shows it, or remove .venv, and run this again.",
            file=sys.stderr,
        )
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
