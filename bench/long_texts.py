"""Measures how much one application's long texts delay its neighbours, and how long the worst search page takes.

    .venv/bin/python -m bench.long_texts [--elasticsearch]

Each load is posted as fast as the product accepts it: 1,440 Chinese messages of 15,000 characters, like an import of
long documents, then 1,440 messages of one letter with 15,990 combining marks. Meanwhile a neighbour posts a message
every half second and polls until it is counted (stored) and until a search finds it. Then a page of 1,000 hits is
requested for each kind of text that is expensive to highlight or to send. Prints the longest times. Fails when the
neighbour waited more than 2 s to be stored or 10 s to be found, or when a page took more than 3 s, with or without a
503. With DATABASE=mariadb it runs on MariaDB.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

os.environ.setdefault("DATABASE", "sqlite")

import requests

from bench import running
from tests.support.product import Product
from tests.support.services.elasticsearch import Node

STORED, FOUND, PAGE = 2.0, 10.0, 3.0
#: Seconds between the neighbour's messages, and between its polls.
PAUSE, POLL = 0.5, 0.05
#: The number of hits on a page, and of messages in a POST, which may have 4 MB.
HITS, AT_ONCE = 1_000, 50

MARKS = "zq a" + "\u0301" * 8_000 + "\u0316" * 7_990
#: The most expensive texts to tokenize, to highlight, to escape and to send.
WORST = {
    "combining marks": MARKS,
    "short words": "zq " * 5_330,
    "quotes": "zq " + "'" * 15_990,
    "emoji": "zq " + "🎉" * 15_990,
}


class Application:
    def __init__(self, product: Product) -> None:
        self.http, self.url = requests.Session(), product.url
        self.token = self.post("/applications", {"name": "measured"}).json()["token"]
        self.chats = 0

    def post(self, path: str, content: object) -> requests.Response:
        """Posts until it is accepted, and obeys Retry-After."""
        # As UTF-8: with escapes a Chinese batch would be twice as long and rejected.
        data, headers = json.dumps(content, ensure_ascii=False).encode(), {"Content-Type": "application/json"}
        while True:
            response = self.http.post(self.url + path, data=data, headers=headers, timeout=60)
            if response.status_code == 201:
                return response
            assert response.status_code == 503, response.text
            time.sleep(float(response.headers["Retry-After"]))

    def open_chat(self) -> str:
        self.post(f"/applications/{self.token}/chats", {"title": "measured"})
        self.chats += 1
        return f"/applications/{self.token}/chats/{self.chats}"

    def count(self, chat: str) -> int:
        return int(self.http.get(self.url + chat, timeout=60).json()["messages_count"])

    def search(self, words: str, **narrowed: int) -> requests.Response:
        params = {"application": self.token, **narrowed}
        return self.http.get(f"{self.url}/search/{words}", params=params, timeout=60)

    def hits(self, words: str, **narrowed: int) -> int:
        """Returns the number of hits; 0 while search is down, as before its first message."""
        return int(self.search(words, limit=1, **narrowed).json().get("count", 0))


class Neighbour:
    """Posts in a thread of its own and measures how long each message takes."""

    def __init__(self, product: Product) -> None:
        self.product = product
        self.stored: list[float] = []
        self.found: list[float] = []
        self.done = threading.Event()

    @contextmanager
    def at_work(self) -> Iterator[None]:
        thread = threading.Thread(target=self.run)
        thread.start()
        try:
            yield
        finally:
            self.done.set()
            thread.join()

    def run(self) -> None:
        ours = Application(self.product)
        chat = ours.open_chat()
        while not self.done.wait(PAUSE):
            number = len(self.stored) + 1
            ours.post(f"{chat}/messages", {"body": f"word{number}x"})
            posted = time.monotonic()
            while ours.count(chat) < number:
                time.sleep(POLL)
            self.stored.append(time.monotonic() - posted)
            while not ours.hits(f"word{number}x"):
                time.sleep(POLL)
            self.found.append(time.monotonic() - posted)


def load(product: Product, name: str, texts: list[str]) -> bool:
    """Posts the texts and waits until all are found. Returns whether the neighbour stayed within its limits."""
    neighbour = Neighbour(product)
    began = time.monotonic()
    with neighbour.at_work():
        application = Application(product)
        chat = application.open_chat()
        for start in range(0, len(texts), AT_ONCE):
            application.post(f"{chat}/messages", [{"body": text} for text in texts[start : start + AT_ONCE]])
        posted = time.monotonic() - began
        while application.hits("zq") < len(texts):
            time.sleep(1)
    print(f"{name}: {len(texts):,} posted in {posted:.0f} s, all found after {time.monotonic() - began:.0f} s")
    for what, seen in (("stored", neighbour.stored), ("found", neighbour.found)):
        print(f"    a neighbour's message {what} after {statistics.median(seen):.1f} s, at worst {max(seen):.1f} s")
    return max(neighbour.stored) <= STORED and max(neighbour.found) <= FOUND


def page(application: Application, name: str, text: str) -> bool:
    chat = application.open_chat()
    for _ in range(HITS // AT_ONCE):
        application.post(f"{chat}/messages", [{"body": text}] * AT_ONCE)
    while application.hits("zq", chat=application.chats) < HITS:
        time.sleep(1)
    began = time.monotonic()
    response = application.search("zq", chat=application.chats, limit=HITS)
    took = time.monotonic() - began
    print(f"{HITS:,} hits, {name}: {response.status_code} after {took:.1f} s, {len(response.content) / 1e6:.0f} MB")
    return took <= PAGE and response.status_code in (200, 503)


def measure(product: Product) -> bool:
    chance = random.Random(1)
    chinese = ["zq " + "".join(map(chr, chance.choices(range(0x4E00, 0x9000), k=15_000))) for _ in range(1_440)]
    reached = [load(product, "Chinese", chinese), load(product, "combining marks", [MARKS] * 1_440)]
    application = Application(product)
    pages = {"Chinese": chinese[0], **WORST}
    reached += [page(application, name, text) for name, text in pages.items()]
    return all(reached)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--elasticsearch", action="store_true", help="use Elasticsearch instead of FTS5")
    given = parser.parse_args()
    node = Node() if given.elasticsearch else None
    try:
        with running.product(**({"ELASTICSEARCH_URL": node.url} if node else {})) as product:
            reached = measure(product)
    finally:
        if node:
            node.stop()
    sys.exit(not reached)


if __name__ == "__main__":
    main()
