"""Measures how much a flood on one application slows another: its p99 during the flood and without it, in one run.

    .venv/bin/python -m bench.flood [--batches] [--impatient] [--clients 64] [--seconds 60]

The quiet application's clients post a message every 50 ms. The flood's clients post single messages or batches of 1000
as fast as they can, in every second period of 5 s, so that other load on the machine affects both figures. They obey
Retry-After, unless they are impatient and retry at once. They run at the lowest priority, because in production they
are other machines. With DATABASE=mariadb it runs on MariaDB. Prints percentiles, the time until messages are stored,
and the ratio of the p99s. Fails when the ratio is above 2.
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
from tests.support.product import Product

PERIOD = 5.0
#: Seconds at the start of a period that do not count: the last flood is still being stored, or this one is starting.
TRANSITION = 1.5
QUIET_CLIENTS = 8
QUIET_PAUSE = 0.05
PROCESSES = 2
ALLOWED = 2.0
BATCH = [{"body": "one of a thousand messages"}] * 1000


def flooded(moment: float) -> bool:
    """Returns whether the flood is on. All processes agree, because they share the machine's monotonic clock."""
    return int(moment // PERIOD) % 2 == 1


class Quiet:
    """The quiet application and its clients' figures: without the flood (False) and during it (True)."""

    def __init__(self, url: str, path: str, seconds: float) -> None:
        self.url, self.path = url, path
        self.end = time.monotonic() + seconds
        self.milliseconds: dict[bool, list[float]] = defaultdict(list)
        self.stored: dict[bool, list[float]] = defaultdict(list)
        self.refused: Counter[bool] = Counter()

    async def run(self) -> None:
        await asyncio.gather(self._measure_storing(), *(self._post() for _ in range(QUIET_CLIENTS)))

    async def _post(self) -> None:
        client = Client(self.url)
        while time.monotonic() < self.end:
            response = await client.post(self.path, {"body": "a quiet message"})
            if response.began % PERIOD > TRANSITION:
                if response.status == 201:
                    self.milliseconds[flooded(response.began)].append(response.milliseconds)
                else:
                    self.refused[flooded(response.began)] += 1
            await asyncio.sleep(QUIET_PAUSE)
        client.close()

    async def _measure_storing(self) -> None:
        """Measures the time until the chat's count, which changes when a message is stored, includes a new message."""
        client = Client(self.url)
        chat = self.path.removesuffix("/messages")
        while time.monotonic() < self.end:
            response = await client.post(self.path, {"body": "a message to be stored"})
            if response.status == 201:
                while (await client.get(chat)).json()["messages_count"] < response.json()["number"]:
                    await asyncio.sleep(0.02)
                if response.began % PERIOD > TRANSITION:
                    self.stored[flooded(response.began)].append(time.monotonic() - response.ended)
            await asyncio.sleep(0.3)
        client.close()

    def report(self) -> float:
        """Prints the figures. Returns the p99 during the flood divided by the p99 without it."""
        for during, name in ((False, "alone"), (True, "during the flood")):
            seen = self.milliseconds[during]
            shares = ", ".join(f"p{share} {percentile(seen, share / 100):.1f} ms" for share in (50, 95, 99))
            print(f"{name}: {shares}, {len(seen)} posts, {self.refused[during]} rejected")
            stored = self.stored[during]
            print(f"    stored after {statistics.median(stored):.2f} s, at worst {max(stored):.2f} s")
        ratio = percentile(self.milliseconds[True], 0.99) / percentile(self.milliseconds[False], 0.99)
        print(f"p99 during the flood is {ratio:.2f} times the p99 alone")
        return ratio


async def flood(given: argparse.Namespace) -> Counter[int]:
    """Posts until the time is over. Returns the number of responses by status."""
    responses: Counter[int] = Counter()
    end = time.monotonic() + given.seconds

    async def post() -> None:
        client = Client(given.url)
        while (now := time.monotonic()) < end:
            if not flooded(now):
                await asyncio.sleep(PERIOD - now % PERIOD)
                continue
            response = await client.post(given.path, BATCH if given.batches else {"body": "one of very many"})
            responses[response.status] += 1
            if response.status != 201 and not given.impatient:
                await asyncio.sleep(response.retry_after)
        client.close()

    await asyncio.gather(*(post() for _ in range(given.clients // PROCESSES)))
    return responses


async def open_chat(url: str) -> str:
    client = Client(url)
    token = (await client.post("/applications", {"name": "measured"})).json()["token"]
    await client.post(f"/applications/{token}/chats", {"title": "measured"})
    client.close()
    return f"/applications/{token}/chats/1/messages"


async def measure(product: Product, seconds: float) -> float:
    ours, theirs = await open_chat(product.url), await open_chat(product.url)
    # The flooding processes run the same command with a hidden option.
    command = [sys.executable, "-m", "bench.flood", *sys.argv[1:], "--url", product.url, "--path", theirs]
    floods = [await asyncio.create_subprocess_exec(*command) for _ in range(PROCESSES)]
    quiet = Quiet(product.url, ours, seconds)
    await quiet.run()
    for process in floods:
        await process.wait()
    return quiet.report()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", action="store_true", help="each request of the flood has 1000 messages")
    parser.add_argument("--impatient", action="store_true", help="the flood ignores Retry-After")
    parser.add_argument("--clients", type=int, default=64, help="the number of the flood's clients")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--url", help=argparse.SUPPRESS)
    parser.add_argument("--path", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.url:
        os.nice(19)
        print(f"    responses of a flooding process by status: {dict(asyncio.run(flood(given)))}")
        return
    with running.product() as product:
        ratio = asyncio.run(measure(product, given.seconds))
    sys.exit(ratio > ALLOWED)


if __name__ == "__main__":
    main()
