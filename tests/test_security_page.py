"""docs/security.md: what it says is shown, is."""

from __future__ import annotations

import re

import pytest
from django.conf import settings

PAGE = (settings.BASE_DIR / "docs/security.md").read_text()
NAMED = sorted(set(re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", PAGE)))
ROWS = [line for line in PAGE.splitlines() if line.startswith("| ") and not line.startswith("| threat |")]


@pytest.mark.parametrize("file", sorted({file for file, _ in NAMED}))
def test_each_test_that_the_page_names_exists(file: str) -> None:
    code = (settings.BASE_DIR / file).read_text()

    assert [name for of, name in NAMED if of == file and f"\ndef {name}(" not in code] == []


def test_each_threat_has_a_test() -> None:
    assert len(ROWS) > 30
    assert [row for row in ROWS if "::test_" not in row.split(" | ")[-1]] == []
