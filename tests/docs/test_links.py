"""No link is broken: between pages, to headings, to files, and from the code to its page."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.docs.pages import PAGES, ROOT, anchors, without_code

LINK = re.compile(r"\[[^\]]+\]\(([^)\s]+)\)")
#: A path in backticks that starts with a folder of the project.
NAMED = re.compile(r"`([a-z_]+/[\w./*{},-]*)`")


def pages() -> list[str]:
    return [str(page.relative_to(ROOT)) for page in PAGES]


@pytest.mark.parametrize("name", pages())
def test_every_link_of_a_page_leads_somewhere(name: str) -> None:
    page = ROOT / name
    for link in LINK.findall(without_code(page.read_text())):
        if re.match(r"https?:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target), link


@pytest.mark.parametrize("name", pages())
def test_every_file_that_a_page_names_is_there(name: str) -> None:
    folders = {folder.name for folder in ROOT.iterdir() if folder.is_dir()}
    for path in NAMED.findall((ROOT / name).read_text()):
        first = path.partition("/")[0]
        # bench/results is created by a run of the benchmarks.
        if first in folders and "{" not in path and not path.startswith("bench/results"):
            assert list(ROOT.glob(path.rstrip("/"))), path


def test_every_page_that_the_code_names_is_there() -> None:
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    named = set()
    for name in tracked.splitlines():
        if name.endswith((".py", ".lua", ".conf", ".yml", ".sh", "Makefile", "Dockerfile", ".example", ".cnf")):
            named |= set(re.findall(r"\bdocs/[\w/-]+\.md", (ROOT / name).read_text()))

    assert len(named) > 5
    assert not [page for page in named if not (ROOT / page).exists()]


def test_every_page_is_found_from_the_list_of_pages() -> None:
    links = LINK.findall((ROOT / "docs/README.md").read_text())
    listed = {(ROOT / "docs" / link.partition("#")[0]).resolve() for link in links}

    assert {page for page in PAGES if page.parent.name in ("docs", "howto")} - {ROOT / "docs/README.md"} <= listed
    assert ROOT / "docs/README.md" in {
        (ROOT / link).resolve() for link in LINK.findall(Path(ROOT / "README.md").read_text())
    }


def test_every_function_that_the_walk_through_the_code_names_is_there() -> None:
    named = re.findall(
        r"^\|.*?\| `([\w/]+\.py)` `([\w.]+)` \|", (ROOT / "docs/reading-the-code.md").read_text(), re.MULTILINE
    )

    assert len(named) > 30
    for file, function in named:
        code = (ROOT / file).read_text()
        for name in function.split("."):
            assert re.search(rf"^\s*(?:def|class) {name}\b", code, re.MULTILINE), f"{file} {function}"
