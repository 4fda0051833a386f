"""Draws flame graphs of a POST and of a drain: docs/flames/post.svg and drain.svg.

    .venv/bin/python -m bench.flames [--seconds 20]

py-spy samples a web process 200 times a second while 16 clients post single messages. Only the thread that holds the
GIL counts. Then it samples the only worker while it stores and indexes a backlog. There waiting counts too. DATABASE
names the database (default: mariadb).
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
from tests.support.product import children
from tests.support.services.elasticsearch import Node

FOLDER = Path(__file__).parent.parent / "docs" / "flames"
SAMPLES_PER_SECOND = 200


@contextmanager
def sampled(pid: int, name: str, seconds: int, *more: str) -> Iterator[None]:
    """Samples the process during the block."""
    picture = f"{name}.svg"
    # Nonblocking: pausing the process for each sample would distort the result.
    options = ["--nonblocking", *more, "--rate", SAMPLES_PER_SECOND, "--duration", seconds, "--output", picture]
    # The picture shows the command that made it, so the command contains no path of this machine.
    command = ["py-spy", "record", "--pid", pid, *options]
    sampler = subprocess.Popen(
        list(map(str, command)),
        executable=Path(sys.executable).with_name("py-spy"),
        cwd=FOLDER,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield
    finally:
        if sampler.wait():
            raise SystemExit(f"py-spy exited with {sampler.returncode}. Is it allowed to read other processes?")
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
            raise SystemExit("Set DATABASE=mariadb or DATABASE=mysql.")
        node = Node()
        closing.callback(node.stop)
        settings = {"DATABASE_URL": server.new_database("product"), "ELASTICSEARCH_URL": node.url, "WORKERS": "1"}
        product = closing.enter_context(running.started(**settings))
        side = ProductSide(product, server, "product")
        side.post(texts, seconds=3)
        with sampled(min(side.web_memory()), "post", seconds, "--gil"):
            side.post(texts, seconds)
        with side.standing_still(WORKER):
            side.load(list(posts(side.open_chats(), texts.first(20_000), BATCH)), seconds // 2)
        (main,) = product.mains(WORKER)
        (worker,) = children(main)
        with sampled(worker, "drain", seconds):
            side.wait_until_settled()


if __name__ == "__main__":
    draw()
