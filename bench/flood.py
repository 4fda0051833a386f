"""How much a flood on one application slows another: its p99 beside the flood, and alone, in one run.

    .venv/bin/python -m bench.flood [--batches] [--impatient] [--clients 64] [--seconds 60]

The quiet application's clients post a message each 50 ms. The flood's post as fast as they can, single messages or
batches of 1000, in every second period of 5 s, so that whatever else the machine does falls on both. They wait as
Retry-After tells them, unless they are impatient: those ask again at once. They run at the lowest priority, since in
earnest they are other machines. DATABASE=mariadb before it measures on MariaDB. Prints percentiles, how long messages
take to be stored, and the ratio of the p99s; fails when that is above 2.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import sys
import time
from collections import Counter, defaultdict

from bench import running
from bench.clients import Client, percentile
from tests.embedded.product import Product

PERIOD = 5.0
#: Seconds of a period that are not counted: the flood before it is still being stored, or this one is still to begin.
PASSING = 1.5
QUIET_CLIENTS = 8
QUIET_PAUSE = 0.05
PROCESSES = 2
ALLOWED = 2.0
BATCH = [{"body": "one of a thousand messages"}] * 1000


def flooded(moment: float) -> bool:
    """Whether the flood is on. The monotonic clock is the machine's, so all processes agree."""
    return int(moment // PERIOD) % 2 == 1


class Quiet:
    """The quiet application, and what its clients saw: without the flood (False) and beside it (True)."""

    def __init__(self, url: str, path: str, seconds: float) -> None:
        self.url, self.path = url, path
        self.end = time.monotonic() + seconds
        self.milliseconds: dict[bool, list[float]] = defaultdict(list)
        self.stored: dict[bool, list[float]] = defaultdict(list)
        self.refused: Counter[bool] = Counter()

    async def run(self) -> None:
        await asyncio.gather(self._follow(), *(self._post() for _ in range(QUIET_CLIENTS)))

    async def _post(self) -> None:
        client = Client(self.url)
        while time.monotonic() < self.end:
            answer = await client.post(self.path, {"body": "a quiet message"})
            if answer.began % PERIOD > PASSING:
                if answer.status == 201:
                    self.milliseconds[flooded(answer.began)].append(answer.milliseconds)
                else:
                    self.refused[flooded(answer.began)] += 1
            await asyncio.sleep(QUIET_PAUSE)
        client.close()

    async def _follow(self) -> None:
        """How long it takes until the chat's count, which moves when a message is stored, includes one just posted."""
        client = Client(self.url)
        chat = self.path.removesuffix("/messages")
        while time.monotonic() < self.end:
            answer = await client.post(self.path, {"body": "a message to be followed"})
            if answer.status == 201:
                while (await client.get(chat)).json()["messages_count"] < answer.json()["number"]:
                    await asyncio.sleep(0.02)
                if answer.began % PERIOD > PASSING:
                    self.stored[flooded(answer.began)].append(time.monotonic() - answer.ended)
            await asyncio.sleep(0.3)
        client.close()

    def report(self) -> float:
        """Prints what was seen, and returns how many times as high the p99 is beside the flood."""
        for beside, name in ((False, "alone"), (True, "beside the flood")):
            seen = self.milliseconds[beside]
            shares = ", ".join(f"p{share} {percentile(seen, share / 100):.1f} ms" for share in (50, 95, 99))
            print(f"{name}: {shares}, {len(seen)} posts, {self.refused[beside]} refused")
            stored = self.stored[beside]
            print(f"    stored after {statistics.median(stored):.2f} s, at worst {max(stored):.2f} s")
        ratio = percentile(self.milliseconds[True], 0.99) / percentile(self.milliseconds[False], 0.99)
        print(f"p99 beside the flood is {ratio:.2f} times that alone")
        return ratio


async def flood(given: argparse.Namespace) -> Counter[int]:
    """Answers by status, until the time is over."""
    answers: Counter[int] = Counter()
    end = time.monotonic() + given.seconds

    async def post() -> None:
        client = Client(given.url)
        while (now := time.monotonic()) < end:
            if not flooded(now):
                await asyncio.sleep(PERIOD - now % PERIOD)
                continue
            answer = await client.post(given.path, BATCH if given.batches else {"body": "one of very many"})
            answers[answer.status] += 1
            if answer.status != 201 and not given.impatient:
                await asyncio.sleep(answer.retry_after)
        client.close()

    await asyncio.gather(*(post() for _ in range(given.clients // PROCESSES)))
    return answers


async def open_chat(url: str) -> str:
    client = Client(url)
    token = (await client.post("/applications", {"name": "measured"})).json()["token"]
    await client.post(f"/applications/{token}/chats", {"title": "measured"})
    client.close()
    return f"/applications/{token}/chats/1/messages"


async def measure(product: Product, seconds: float) -> float:
    ours, theirs = await open_chat(product.url), await open_chat(product.url)
    # The same command in processes of its own, which flood.
    command = [sys.executable, "-m", "bench.flood", *sys.argv[1:], "--url", product.url, "--path", theirs]
    floods = [await asyncio.create_subprocess_exec(*command) for _ in range(PROCESSES)]
    quiet = Quiet(product.url, ours, seconds)
    await quiet.run()
    for process in floods:
        await process.wait()
    return quiet.report()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", action="store_true", help="1000 messages in each request of the flood")
    parser.add_argument("--impatient", action="store_true", help="the flood takes no notice of Retry-After")
    parser.add_argument("--clients", type=int, default=64, help="of the flood")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--url", help=argparse.SUPPRESS)
    parser.add_argument("--path", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.url:
        os.nice(19)
        print(f"    a flooding process was answered {dict(asyncio.run(flood(given)))} times")
        return
    with running.product() as product:
        ratio = asyncio.run(measure(product, given.seconds))
    sys.exit(ratio > ALLOWED)


if __name__ == "__main__":
    main()
