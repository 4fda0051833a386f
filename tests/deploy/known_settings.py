"""The variables of docs/settings.md. tests/conf/test_settings.py compares them with the code."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent


def _documented() -> set[str]:
    tables = re.findall(r"^\| variable \|.*\n(?:\|.*\n)+", (ROOT / "docs" / "settings.md").read_text(), re.MULTILINE)
    cells = [cell for table in tables for cell in re.findall(r"^\| (`.+?) \|", table, re.MULTILINE)]
    return {name for cell in cells for name in re.findall(r"`([A-Z_]+)`", cell)}


KNOWN = _documented()
