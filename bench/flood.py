"""How much a flood on one application slows another: its p99, with the flood and without, in one run.

    .venv/bin/python -m bench.flood [--batches] [--impatient] [--clients 64] [--seconds 20]

The quiet application's clients post a message each 50 ms. The flood's post as fast as they can: single messages, or
batches of 1000. They wait as Retry-After tells them, unless they are impatient: those ask again at once. All clients run
at the lowest priority, since in earnest they are other machines. Three rounds of each, in turn; DATABASE=mariadb before it
measures on MariaDB. Prints the quiet application's percentiles, how long its messages take to be stored, and the ratio of
the median p99s; fails when that is above 2.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import sys
import time
from collections import Counter
from dataclasses import dataclass, field

from bench import running
from bench.clients import Client, percentile
from tests.embedded.product import Product

ROUNDS = 3
QUIET_CLIENTS = 8
QUIET_PAUSE = 0.05
PROCESSES = 2
ALLOWED = 2.0
BATCH = [{"body": "one of a thousand messages"}] * 1000


@dataclass
class Round:
    """What the quiet application's clients saw."""

    milliseconds: list[float] = field(default_factory=list)
    stored: list[float] = field(default_factory=list)
    refused: int = 0

    @property
    def p99(self) -> float:
        return percentile(self.milliseconds, 0.99)

    def __str__(self) -> str:
        shares = ", ".join(f"p{share} {percentile(self.milliseconds, share / 100):.1f} ms" for share in (50, 95, 99))
        stored = f"stored after {statistics.median(self.stored):.2f} s (worst {max(self.stored):.2f} s)"
        return f"{shares}; {len(self.milliseconds)} posts, {self.refused} refused; {stored}"


async def open_chat(url: str) -> str:
    client = Client(url)
    token = (await client.post("/applications", {"name": "measured"})).json()["token"]
    await client.post(f"/applications/{token}/chats", {"title": "measured"})
    client.close()
    return f"/applications/{token}/chats/1/messages"


async def quiet(url: str, path: str, seconds: float) -> Round:
    seen = Round()
    end = time.monotonic() + seconds

    async def post(number: int) -> None:
        client = Client(url)
        await asyncio.sleep(number * QUIET_PAUSE / QUIET_CLIENTS)
        while time.monotonic() < end:
            answer = await client.post(path, {"body": "a quiet message"})
            if answer.status == 201:
                seen.milliseconds.append(answer.milliseconds)
            else:
                seen.refused += 1
            await asyncio.sleep(QUIET_PAUSE)
        client.close()

    async def follow() -> None:
        """How long it takes until the parent's count, which moves when a message is stored, shows one just posted."""
        client = Client(url)
        chat = path.removesuffix("/messages")
        while time.monotonic() < end:
            answer = await client.post(path, {"body": "a message to be followed"})
            if answer.status != 201:
                continue
            number = answer.json()["number"]
            while (await client.get(chat)).json()["messages_count"] < number:
                await asyncio.sleep(0.02)
            seen.stored.append(time.monotonic() - answer.ended)
            await asyncio.sleep(0.5)
        client.close()

    await asyncio.gather(follow(), *(post(number) for number in range(QUIET_CLIENTS)))
    return seen


async def flood(url: str, path: str, seconds: float, clients: int, batches: bool, impatient: bool) -> Counter[int]:
    answers: Counter[int] = Counter()
    end = time.monotonic() + seconds

    async def post() -> None:
        client = Client(url)
        while time.monotonic() < end:
            answer = await client.post(path, BATCH if batches else {"body": "one of very many"})
            answers[answer.status] += 1
            if answer.status != 201 and not impatient:
                await asyncio.sleep(answer.retry_after)
        client.close()

    await asyncio.gather(*(post() for _ in range(clients)))
    return answers


class Flood:
    """The flooding clients, in processes of their own."""

    def __init__(self, arguments: list[str]) -> None:
        self.arguments = arguments

    async def run(self) -> Counter[int]:
        command = [sys.executable, "-m", "bench.flood", "--flood", *self.arguments]
        processes = [
            await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE) for _ in range(PROCESSES)
        ]
        answers: Counter[int] = Counter()
        for process in processes:
            output, _ = await process.communicate()
            for line in output.decode().split():
                status, _, count = line.partition(":")
                answers[int(status)] += int(count)
        return answers


async def measure(product: Product, arguments: argparse.Namespace) -> float:
    ours, theirs = await open_chat(product.url), await open_chat(product.url)
    kind = ["--batches"] * arguments.batches + ["--impatient"] * arguments.impatient
    theirs_flood = Flood(
        [*kind, "--clients", str(arguments.clients // PROCESSES), "--seconds", str(arguments.seconds + 2), "--url"]
        + [product.url, "--path", theirs]
    )
    await quiet(product.url, ours, 3)
    alone: list[float] = []
    beside: list[float] = []
    for _ in range(ROUNDS):
        seen = await quiet(product.url, ours, arguments.seconds)
        print(f"alone:  {seen}", flush=True)
        alone.append(seen.p99)
        flooding = asyncio.create_task(theirs_flood.run())
        await asyncio.sleep(1)
        seen = await quiet(product.url, ours, arguments.seconds)
        print(f"beside: {seen}", flush=True)
        beside.append(seen.p99)
        print(f"        the flood was answered {dict(await flooding)} times", flush=True)
        await asyncio.sleep(5)
    ratio = statistics.median(beside) / statistics.median(alone)
    print(f"p99 beside the flood is {ratio:.2f} times that alone")
    return ratio


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", action="store_true", help="1000 messages in each request of the flood")
    parser.add_argument("--impatient", action="store_true", help="the flood takes no notice of Retry-After")
    parser.add_argument("--clients", type=int, default=64, help="of the flood")
    parser.add_argument("--seconds", type=float, default=20, help="of each round")
    parser.add_argument("--flood", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--url", help=argparse.SUPPRESS)
    parser.add_argument("--path", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.flood:
        os.nice(19)
        seen = asyncio.run(flood(given.url, given.path, given.seconds, given.clients, given.batches, given.impatient))
        print(*(f"{status}:{count}" for status, count in seen.items()))
        return
    with running.product() as product:
        ratio = asyncio.run(measure(product, given))
    sys.exit(ratio > ALLOWED)


if __name__ == "__main__":
    main()
