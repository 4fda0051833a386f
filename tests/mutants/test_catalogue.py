"""`make mutants` takes minutes and is run by hand: what would end it with 2 is seen here."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from tests.mutants.__main__ import BASE_DIR, mutate
from tests.mutants.catalogue import MUTANTS, Mutant


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_each_mutants_edits_have_their_place_in_the_product(mutant: Mutant, tmp_path: Path) -> None:
    for name, _, _ in mutant.edits:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(BASE_DIR / name, tmp_path / name)

    mutate(tmp_path, mutant)


def test_the_page_of_the_mutants_lists_each_of_them() -> None:
    page = (BASE_DIR / "docs" / "reliability.md").read_text().partition("## Mutants")[2]

    assert re.findall(r"^\| (.+) \| (.+) \| `.+` \|$", page, re.MULTILINE) == [(m.name, m.breaks) for m in MUTANTS]
