"""Reads the documentation for the tests: its commands, the output it shows, and its links."""

from __future__ import annotations

import re
import textwrap
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent

#: Pages whose commands the tests run, from top to bottom.
WITH_COMMANDS = [ROOT / "README.md", ROOT / "docs/tutorial.md", *sorted((ROOT / "docs/howto").glob("*.md"))]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])

FENCE = re.compile(r"^(?P<indent> *)```(?P<language>\w*)\n(?P<text>.*?)^(?P=indent)```$", re.MULTILINE | re.DOTALL)
#: The HTML comment above a block that the tests do not run. Readers do not see it.
NOT_RUN = "<!-- not run: "
MARK = re.compile(NOT_RUN + r"(.+) -->\s*\Z")
RUN = re.compile(r"make run((?: [A-Z_]+=\S+)*)(?: +#.*)?")


@dataclass(frozen=True)
class Block:
    page: Path
    line: int
    text: str
    #: The output that the page shows, with "…" for what differs between runs; None if it shows none.
    printed: str | None
    #: Why the tests do not run it; empty for a block that they run.
    reason: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @property
    def settings(self) -> str | None:
        """The variables of a block that starts the product; None for any other block."""
        match = RUN.fullmatch(self.text.strip())
        return match[1] if match else None


def blocks(page: Path) -> list[Block]:
    """Returns the shell blocks of a page, in order."""
    source = page.read_text()
    found: list[Block] = []
    to_type: re.Match[str] | None = None
    for fence in FENCE.finditer(source):
        if fence["language"] == "sh":
            mark = MARK.search(source[: fence.start()])
            line = source.count("\n", 0, fence.start()) + 1
            found.append(Block(page, line, textwrap.dedent(fence["text"]), None, mark[1] if mark else ""))
        elif fence["language"] == "text" and to_type:
            found[-1] = Block(**{**vars(found[-1]), "printed": textwrap.dedent(fence["text"])})
        to_type = fence if fence["language"] == "sh" else None
    return found


def without_code(source: str) -> str:
    return re.sub(r"`[^`\n]+`", "", FENCE.sub("", source))


def anchors(page: Path) -> set[str]:
    """Returns the anchors that GitHub makes of the headings."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
