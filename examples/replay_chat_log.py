#!/usr/bin/env python
"""Replays a chat log through the API, reads everything back and compares.

The log is JSON lines (`.gz` or plain) with one message per line: {"chat": "…", "body": "…"}. Each distinct `chat`
becomes a chat, and its messages are posted in order. The client (chat_client.py, beside this file) retries each request
until it is answered, so you can kill and restart the server during a replay.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import random
import re
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice

from chat_client import ChatClient, ChatError, Unanswered
from tqdm import tqdm

#: Seconds for which a request is retried before the replay gives up.
PATIENCE = 120
#: The same for the first request.
FIRST_PATIENCE = 8
#: The number of searches at the end.
SEARCHES = 25


@dataclass
class Chat:
    title: str
    bodies: list[str] = field(default_factory=list)
    number: int = 0


class BadLog(Exception):
    """The log cannot be read. The message names the line and the reason."""


def read_log(path: str, messages: int | None) -> list[Chat]:
    """Returns the log's chats, in the order of their first messages. Raises BadLog."""
    chats: dict[str, Chat] = {}
    number = 0
    try:
        with gzip.open(path, "rt", encoding="utf-8") if path.endswith(".gz") else open(path, encoding="utf-8") as lines:
            for line in islice(lines, messages):
                number += 1
                title, body = text_of(line)
                chats.setdefault(title, Chat(title)).bodies.append(body)
    except OSError as error:
        raise BadLog(f"{path}: {error.strerror or error}") from None
    except (EOFError, UnicodeDecodeError, zlib.error) as error:
        raise BadLog(f"{path}, after line {number}: {error}") from None
    except (ValueError, KeyError, TypeError):
        raise BadLog(f'{path}, line {number}: a line is {{"chat": "…", "body": "…"}}') from None
    if not chats:
        raise BadLog(f"{path} holds no message")
    return list(chats.values())


def text_of(line: str) -> tuple[str, str]:
    """Returns the chat and body of a line. Raises ValueError, KeyError or TypeError for any other line."""
    message = json.loads(line)
    if not (isinstance(message["chat"], str) and isinstance(message["body"], str)):
        raise TypeError
    return message["chat"], message["body"]


class Replay:
    def __init__(self, base: str, clients: int, batch: int) -> None:
        self.clients, self.batch = clients, batch
        key = os.environ.get("ADMIN_API_KEY", "").split(",")[0].strip()
        # Waits only briefly for the first response, and longer for a server that goes down during the replay.
        first = ChatClient(base, admin_key=key, patience=FIRST_PATIENCE, timeout=FIRST_PATIENCE)
        self.client = ChatClient(base, admin_key=key, patience=PATIENCE)
        self.token = first.create_application("replayed chat log").token

    def post(self, chats: list[Chat]) -> None:
        """Creates the chats in order, then posts each chat's messages in order, several chats in parallel."""
        for chat in chats:
            chat.number = self.client.create_chat(self.token, chat.title).number
        # Longest first, so that no client is left alone with a long chat at the end.
        longest_first = sorted(chats, key=lambda chat: len(chat.bodies), reverse=True)
        total = sum(len(chat.bodies) for chat in chats)
        with tqdm(total=total, desc="post", unit=" messages", smoothing=0.05) as bar:

            def post(chat: Chat) -> None:
                for posted in self._post_chat(chat):
                    bar.update(posted)

            self._side_by_side(longest_first, post)

    def _post_chat(self, chat: Chat) -> Iterator[int]:
        for start in range(0, len(chat.bodies), self.batch):
            bodies = chat.bodies[start : start + self.batch]
            if self.batch == 1:
                created = [self.client.create_message(self.token, chat.number, bodies[0])]
            else:
                created = self.client.create_messages(self.token, chat.number, bodies)
            numbers = [message.number for message in created]
            if numbers != list(range(start + 1, start + 1 + len(bodies))):
                raise SystemExit(f"chat {chat.number}: message {start + 1} was given the number {numbers[0]}")
            yield len(bodies)

    def wait_until_stored(self, chats: list[Chat]) -> None:
        """Waits until `messages_count`, which counts stored rows, has reached the log's numbers."""
        expected = {chat.number: len(chat.bodies) for chat in chats}
        while {chat.number: chat.messages_count for chat in self.client.chats(self.token)} != expected:
            time.sleep(0.05)

    def read_back(self, chats: list[Chat]) -> int:
        """Reads every message of every chat. Returns how many differ from the log."""
        differences: list[int] = []
        with tqdm(total=sum(len(chat.bodies) for chat in chats), desc="read", unit=" messages") as bar:

            def compare(chat: Chat) -> None:
                found = list(self.client.messages(self.token, chat.number))
                expected = list(enumerate(chat.bodies, start=1))
                got = [(message.number, message.body) for message in found]
                wrong = sum(a != b for a, b in zip(got, expected, strict=False)) + abs(len(got) - len(expected))
                differences.append(wrong)
                bar.update(len(found))

            self._side_by_side(chats, compare)
        return sum(differences)

    def search(self, chats: list[Chat]) -> tuple[int, int]:
        """Searches for messages by a prefix of one of their words. Returns how many were found, and of how many."""
        chosen = random.Random(1)
        words = [
            (chat.number, number, word)
            for chat in chats
            for number, body in enumerate(chat.bodies, start=1)
            for word in re.findall(r"[A-Za-z]{5,}", body)[:1]
        ]
        looked_for = chosen.sample(words, min(SEARCHES, len(words)))
        found = 0
        for chat_number, number, word in tqdm(looked_for, desc="search", unit=" words"):
            found += self._finds(word[:-1].lower(), chat_number, number)
        return found, len(looked_for)

    def _finds(self, query: str, chat: int, number: int) -> bool:
        """Searches until the message is found, because the index lags the rows by about a second."""
        deadline = time.monotonic() + 30
        while True:
            if any(hit.number == number for hit in self.client.search(query, application=self.token, chat=chat)):
                return True
            if time.monotonic() > deadline:
                return False
            time.sleep(0.5)

    def _side_by_side(self, chats: list[Chat], work: Callable[[Chat], None]) -> None:
        """Runs `work` on the chats in this order, in one thread per client."""
        with ThreadPoolExecutor(self.clients) as pool:
            for done in [pool.submit(work, chat) for chat in chats]:
                done.result()


def run(options: argparse.Namespace) -> int:
    chats = read_log(options.file, options.messages)
    total = sum(len(chat.bodies) for chat in chats)
    replay = Replay(options.base, options.clients, options.batch)
    print(f"{total:,} messages in {len(chats)} chats → application {replay.token[:6]}…", flush=True)

    started = time.monotonic()
    replay.post(chats)
    acknowledged = time.monotonic() - started
    replay.wait_until_stored(chats)
    stored = time.monotonic() - started
    reading = time.monotonic()
    differences = replay.read_back(chats)
    read = time.monotonic() - reading
    found, looked_for = replay.search(chats)

    print(f"acknowledged  {total / acknowledged:10,.0f} messages/s   {acknowledged:7.1f} s")
    print(f"stored        {total / stored:10,.0f} messages/s   {stored:7.1f} s (messages_count right in every chat)")
    print(f"read back     {total / read:10,.0f} messages/s   {read:7.1f} s")
    print(f"differences   {differences:10,}")
    print(f"search        {found} of {looked_for} messages found by a word prefix")
    print(f"next: curl '{options.base}/applications/{replay.token}/chats?limit=3'")
    return 0 if differences == 0 and found == looked_for else 1


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", help="JSON lines, .gz or plain")
    parser.add_argument("--base", default="http://127.0.0.1:8000", help="the server (default: %(default)s)")
    parser.add_argument("--clients", type=int, default=8, help="parallel connections (default: %(default)s)")
    parser.add_argument("--batch", type=int, default=1, help="messages per request, 1 to 1000 (default: %(default)s)")
    parser.add_argument("--messages", type=int, help="only the first MESSAGES lines")
    options = parser.parse_args()
    if not 1 <= options.batch <= 1000 or options.clients < 1:
        parser.error("--batch is 1 to 1000, --clients at least 1")

    try:
        ChatClient(options.base)
    except ValueError as error:
        parser.error(f"--base is {error}")
    try:
        return run(options)
    except BadLog as error:
        raise SystemExit(str(error)) from None
    except Unanswered as error:
        raise SystemExit(f"{options.base} does not answer ({error}); start the product, or set --base") from None
    except ChatError as error:
        raise SystemExit(f"the server rejected a request: {error}") from None


if __name__ == "__main__":
    sys.exit(main())
