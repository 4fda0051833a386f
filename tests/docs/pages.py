"""The documentation, as tests read it: its commands, what they print, and its links."""

from __future__ import annotations

import re
import textwrap
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent

#: Pages for people who type what they read.
WITH_COMMANDS = [ROOT / "README.md", ROOT / "docs/tutorial.md", *sorted((ROOT / "docs/howto").glob("*.md"))]
PAGES = sorted({ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")})

FENCE = re.compile(r"^(?P<indent> *)```(?P<language>\w*)\n(?P<text>.*?)^(?P=indent)```$", re.MULTILINE | re.DOTALL)
#: The line above a block that is not run, which readers see, too.
MARK = re.compile(r"\*Not run by the tests: (.+)\.\*\s*\Z")
RUN = re.compile(r"make run((?: [A-Z_]+=\S+)*)(?: +#.*)?")


@dataclass(frozen=True)
class Block:
    page: Path
    line: int
    text: str
    #: What it prints, where the page says so: with "…" for what differs.
    printed: str | None
    #: Why it is not run; empty for one that is.
    reason: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @property
    def settings(self) -> str | None:
        """Of a block that starts the product, the variables that it is given; None for any other."""
        match = RUN.fullmatch(self.text.strip())
        return match[1] if match else None


def blocks(page: Path) -> list[Block]:
    """Those to be typed, in order."""
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
    """What GitHub makes of the headings."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
