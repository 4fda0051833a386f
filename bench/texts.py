"""The texts of the messages: from a chat log, or generated."""

from __future__ import annotations

import gzip
import json
import random
import re
from functools import cache
from itertools import accumulate, cycle, islice
from pathlib import Path

#: The number of generated texts. Enough to fill a log, few enough that a search finds a word more than once.
GENERATED = 100_000
#: The size of their vocabulary. The nth word is 1/n as frequent as the first (Zipf's law).
WORDS = 20_000
#: The mean number of words in a text, as in chats, where most texts are short.
MEAN_WORDS = 10
SYLLABLES = [c + v for c in ("b", "d", "f", "g", "k", "l", "m", "n", "p", "r", "s", "t", "v", "z", "") for v in "aeiou"]


class Texts:
    def __init__(self, log: Path | None) -> None:
        """`log` holds JSON lines with a "body" each, as examples/replay_chat_log.py reads them."""
        self.name = log.name if log else f"{GENERATED:,} generated from {WORDS:,} words"
        self.all = _read_log(log) if log else _generate()

    def first(self, count: int) -> list[str]:
        """Returns `count` texts, repeating them if there are fewer."""
        return list(islice(cycle(self.all), count))

    def queries(self, count: int, seed: int) -> list[str]:
        """Returns queries of one or two words of a message, each of four letters or more."""
        chance = random.Random(seed)
        found: list[str] = []
        while len(found) < count:
            words = re.findall(r"[A-Za-z]{4,}", chance.choice(self.all))
            if words:
                found.append(" ".join(chance.sample(words, min(len(words), chance.choice((1, 2))))))
        return found


@cache
def _read_log(log: Path) -> list[str]:
    with gzip.open(log, "rt") if log.suffix == ".gz" else log.open() as lines:
        return [json.loads(line)["body"] for line in lines]


@cache
def _generate() -> list[str]:
    chance = random.Random(1)
    words = ["".join(chance.choices(SYLLABLES, k=chance.choice((1, 2, 2, 3, 3, 4)))) for _ in range(WORDS)]
    frequencies = list(accumulate(1 / rank for rank in range(1, WORDS + 1)))
    lengths = [min(1 + int(chance.expovariate(1 / MEAN_WORDS)), 80) for _ in range(GENERATED)]
    return [" ".join(chance.choices(words, cum_weights=frequencies, k=length)) for length in lengths]
