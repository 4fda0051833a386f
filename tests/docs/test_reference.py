"""The reference lists exactly the commands that exist. For settings, see tests/conf/test_settings.py."""

from __future__ import annotations

import re

from tests.docs.pages import PAGES, ROOT

OPERATIONS = (ROOT / "docs/operations.md").read_text()


def test_every_make_target_is_in_the_table_and_no_other() -> None:
    [phony] = re.findall(r"^\.PHONY: (.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)

    assert set(re.findall(r"^\| `make ([a-z-]+)`", OPERATIONS, re.MULTILINE)) == set(phony.split())


def test_every_command_of_manage_py_is_in_the_table_and_no_other() -> None:
    commands = {file.stem for file in ROOT.glob("**/management/commands/[a-z]*.py") if ".venv" not in file.parts}
    listed = set(re.findall(r"^\| `\.venv/bin/python manage\.py (\w+)", OPERATIONS, re.MULTILINE))

    # "check" is Django's own command, extended with our checks.
    assert listed == commands | {"check"}


def test_no_page_names_a_command_that_is_not_there() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    commands = {file.stem for file in ROOT.glob("**/management/commands/[a-z]*.py") if ".venv" not in file.parts}
    others = {"check", "migrate", "createsuperuser", "spectacular"}
    for page in PAGES:
        source = page.read_text()
        assert set(re.findall(r"`make ([a-z-]+)", source)) <= targets, page
        assert set(re.findall(r"manage\.py (\w+)", source)) <= commands | others, page
