"""Where the time of a POST and of a drain goes: docs/flames/post.svg and drain.svg.

    .venv/bin/python -m bench.flames [--seconds 20]

py-spy looks two hundred times a second at a web process while 16 clients post single messages, where the thread counts
that computes; and then at the one worker while it stores and indexes a backlog, where waiting counts, too. DATABASE
names the database (mariadb).
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

os.environ.setdefault("DATABASE", "mariadb")

from bench import running
from bench.stack import BATCH, WORKER, ProductSide, posts
from bench.texts import Texts
from tests.embedded.product import children
from tests.services.elasticsearch import Node

FOLDER = Path(__file__).parent.parent / "docs" / "flames"
LOOKS_A_SECOND = 200


@contextmanager
def watched(pid: int, name: str, seconds: int, *more: str) -> Iterator[None]:
    """What the process does within; ends with the watch."""
    picture = f"{name}.svg"
    # Without stopping it for each look, which would be seen in what is looked at.
    options = ["--nonblocking", *more, "--rate", LOOKS_A_SECOND, "--duration", seconds, "--output", picture]
    # The picture bears the command that made it: with no path of this machine.
    command = ["py-spy", "record", "--pid", pid, *options]
    watch = subprocess.Popen(
        list(map(str, command)),
        executable=Path(sys.executable).with_name("py-spy"),
        cwd=FOLDER,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield
    finally:
        if watch.wait():
            raise SystemExit(f"py-spy ended with {watch.returncode}: is it allowed to look at other processes?")
    print(FOLDER / picture, flush=True)


def draw() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=20)
    seconds = parser.parse_args().seconds
    FOLDER.mkdir(exist_ok=True)
    texts = Texts(None)
    with ExitStack() as closing:
        server = closing.enter_context(running.database_server())
        if server is None:
            raise SystemExit("A server is needed: DATABASE=mariadb or DATABASE=mysql.")
        node = Node()
        closing.callback(node.stop)
        settings = {"DATABASE_URL": server.new_database("product"), "ELASTICSEARCH_URL": node.url, "WORKERS": "1"}
        product = closing.enter_context(running.started(**settings))
        side = ProductSide(product, server, "product")
        side.post(texts, seconds=3)
        with watched(min(side.web_memory()), "post", seconds, "--gil"):
            side.post(texts, seconds)
        with side.without_workers():
            side.load(list(posts(side.open_chats(), texts.first(20_000), BATCH)), seconds // 2)
        (main,) = product.mains(WORKER)
        (worker,) = children(main)
        with watched(worker, "drain", seconds):
            side.wait_until_settled()


if __name__ == "__main__":
    draw()
