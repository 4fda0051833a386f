"""Measures how long throughput takes to recover when the state Redis restarts with many active chats.

    .venv/bin/python -m bench.seed_storm [--lost]     # on SQLite; with DATABASE=mariadb on MariaDB

Clients post single messages to random chats and retry what is rejected. Redis is killed, and its supervisor starts it
again. With --lost it comes back empty, and each chat's counter is read from the database. Prints the rate of each
second as a share of the rate before the restart. Fails when it takes longer than 15 s to reach 80 %.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import time
from collections import Counter
from itertools import pairwise

import redis

from bench import running
from bench.clients import Client
from chatsystem.conf.data_dir import DataDir
from tests.support.product import Product, kill

APPLICATIONS = 100
CHATS_OF_EACH = 100
CLIENTS = 24
REFERENCE_SECONDS = 10
STORM_SECONDS = 40
RECOVERED = 0.8
PATIENCE = 15


class Storm:
    def __init__(self, product: Product) -> None:
        self.product = product
        self.paths: list[str] = []
        self.accepted: Counter[int] = Counter()
        self.refused: Counter[int] = Counter()

    async def run(self, lost: bool) -> bool:
        await self._make_chats()
        print(f"{len(self.paths):,} chats of {APPLICATIONS} applications, {CLIENTS} clients")
        clients = [asyncio.create_task(self._post(number)) for number in range(CLIENTS)]
        # Warm-up.
        await asyncio.sleep(3)
        await asyncio.sleep(REFERENCE_SECONDS)
        restarted = time.monotonic()
        self._restart_redis(lost)
        await asyncio.sleep(STORM_SECONDS)
        for client in clients:
            client.cancel()
        return self._report(int(restarted))

    async def _make_chats(self) -> None:
        async def make(count: int) -> None:
            client = Client(self.product.url)
            for _ in range(count):
                token = (await client.post("/applications", {"name": "storm"})).json()["token"]
                for _ in range(CHATS_OF_EACH):
                    path = f"/applications/{token}/chats"
                    number = (await client.post(path, {"title": "storm"})).json()["number"]
                    self.paths.append(f"{path}/{number}/messages")
            client.close()

        await asyncio.gather(*(make(APPLICATIONS // 10) for _ in range(10)))

    async def _post(self, number: int) -> None:
        client, chance = Client(self.product.url), random.Random(number)
        while True:
            path = chance.choice(self.paths)
            while (response := await client.post(path, {"body": "a message of the storm"})).status != 201:
                self.refused[int(time.monotonic())] += 1
                await asyncio.sleep(0.1)
            self.accepted[int(response.ended)] += 1

    def _restart_redis(self, lost: bool) -> None:
        if lost:
            with redis.Redis(unix_socket_path=str(DataDir(self.product.data_dir).redis_socket)) as state:
                state.flushdb()
        for pid in self.product.pids("redis-server"):
            kill(pid)

    def _report(self, restarted: int) -> bool:
        """Prints the rate of each second, except the one of the kill. Returns whether the rate recovered in time."""
        before = sum(self.accepted[restarted - second] for second in range(1, REFERENCE_SECONDS + 1))
        reference = before / REFERENCE_SECONDS
        shares = [self.accepted[restarted + second] / reference for second in range(1, STORM_SECONDS)]
        print(f"before: {reference:,.0f} messages/s; after, each second as a share of that:")
        print(" ".join(f"{share:.2f}" for share in shares))
        print(f"rejected, each second: {[self.refused[restarted + second] for second in range(STORM_SECONDS)]}")
        # The mean of two seconds, so that neither chance nor the period of a sweep decides.
        pairs = [(one + other) / 2 for one, other in pairwise(shares)]
        back = next((second for second, share in enumerate(pairs, 1) if share >= RECOVERED), None)
        print(
            f"back at {RECOVERED:.0%} after {back} s" if back else f"not back at {RECOVERED:.0%} in {STORM_SECONDS} s"
        )
        return back is not None and back <= PATIENCE


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lost", action="store_true", help="Redis comes back empty")
    arguments = parser.parse_args()
    with running.product() as product:
        recovered = asyncio.run(Storm(product).run(arguments.lost))
    sys.exit(not recovered)


if __name__ == "__main__":
    main()
