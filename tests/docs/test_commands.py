"""The commands of the README, the tutorial and the guides print what these pages say."""

from __future__ import annotations

import re
import shlex
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.pages import NOT_RUN, ROOT, WITH_COMMANDS, Block, blocks
from tests.docs.shell import Shell
from tests.support.product import Product

#: How many blocks of all pages may be left out, and for which reasons.
MOST_NOT_RUN = 21
REASONS = re.compile(r"it is what runs them|it would fetch what they are part of|the packages are there|needs .+")
#: Blocks that write: they must not be repeated.
WRITES = re.compile(r" -d |\bkill\b|\bsay\b|post\.py|replay")
#: Seconds that a busy machine has to bring counts, search and health up to date after a write.
PATIENCE = 60.0


class Greeting(Product):
    """A product that keeps what it said at its start."""

    greeting = ""

    def start(self) -> None:
        super().start()
        assert self.runner is not None
        assert self.runner.stdout is not None
        self.greeting = ""
        for line in self.runner.stdout:
            # Printed only where a start is slow.
            self.greeting += "" if line.startswith("Waiting for ") else line
            if "Ctrl-C" in line:
                return
        raise AssertionError(self.greeting)


class Reader:
    """Follows a page with the product in one terminal and a shell in another."""

    def __init__(self, product: Greeting, folder: Path) -> None:
        self.product = product
        self.has_started = False
        self.shell = Shell(folder, product.environ(), cwd=ROOT)

    def follow(self, page: Path) -> None:
        try:
            for block in blocks(page):
                if not block.reason:
                    self.type(block)
        except BaseException:
            # The next page starts another one.
            self.product.kill_everything()
            raise
        finally:
            self.shell.close()

    def type(self, block: Block) -> None:
        if block.settings is not None:
            self.check(block, self.start(block.settings))
            return
        printed = self.shell.type(block.text)
        deadline = time.monotonic() + PATIENCE
        while not as_printed(block, printed) and not WRITES.search(block.text) and time.monotonic() < deadline:
            printed = self.shell.type(block.text)
        self.check(block, printed)

    def check(self, block: Block, printed: str) -> None:
        assert as_printed(block, printed), f"{block} says\n{block.printed}\nand it prints\n{printed}"

    def start(self, settings: str) -> str:
        """Starts the product and returns its greeting. A page's later starts stop the running one with Ctrl-C."""
        if self.has_started and self.product.runner is not None:
            assert self.product.stop(signal.SIGINT)[0] == 0
            self.product.runner = None
        if self.product.runner is None:
            given = shlex.split(self.shell.type(f"echo {settings}"))
            self.product.settings = dict(setting.split("=", 1) for setting in given)
            self.product.start()
        self.has_started = True
        return self.product.greeting


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Greeting]:
    """A product for all pages that start it without settings."""
    product = Greeting(tmp_path_factory.mktemp("plain") / "data")
    yield product
    product.kill_everything()


@pytest.fixture
def product(page: Path, plain: Greeting, tmp_path: Path) -> Iterator[Greeting]:
    if not any(block.settings for block in blocks(page) if not block.reason):
        yield plain
        return
    product = Greeting(tmp_path / "data")
    yield product
    product.kill_everything()


def as_printed(block: Block, printed: str) -> bool:
    if block.printed is None:
        return True
    pattern = ".*".join(map(re.escape, block.printed.strip().split("…")))
    return re.fullmatch(pattern, printed.strip(), re.DOTALL) is not None


@pytest.mark.parametrize("page", WITH_COMMANDS, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_page_can_be_followed_from_top_to_bottom(page: Path, product: Greeting, tmp_path: Path) -> None:
    Reader(product, tmp_path).follow(page)


def test_few_blocks_are_not_run_and_each_says_why() -> None:
    reasons = {str(block): block.reason for page in WITH_COMMANDS for block in blocks(page) if block.reason}

    assert len(reasons) <= MOST_NOT_RUN
    for block, reason in reasons.items():
        assert REASONS.fullmatch(reason), block


def test_every_mark_is_above_a_block() -> None:
    for page in WITH_COMMANDS:
        assert page.read_text().count(NOT_RUN) == sum(bool(block.reason) for block in blocks(page))


def test_nothing_to_be_typed_hides_in_a_block_of_another_kind() -> None:
    for page in WITH_COMMANDS:
        languages = set(re.findall(r"^ *```(\w+)$", page.read_text(), re.MULTILINE))
        assert languages <= {"sh", "text", "sql", "nginx", "yaml", "ini", "js", "mermaid"}, page
