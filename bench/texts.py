"""The messages' texts: of a chat log, or made up where there is none."""

from __future__ import annotations

import gzip
import json
import random
import re
from functools import cache
from itertools import accumulate, cycle, islice
from pathlib import Path

#: Texts that are made up. More than it takes to fill a log, few enough that a search finds a word more than once.
MADE_UP = 100_000
#: Words that they are made of. The nth is 1/n as frequent as the first, about as in any language.
WORDS = 20_000
#: The mean number of words in a text: that of chat, where most are short.
MEAN_WORDS = 10
SYLLABLES = [c + v for c in ("b", "d", "f", "g", "k", "l", "m", "n", "p", "r", "s", "t", "v", "z", "") for v in "aeiou"]


class Texts:
    def __init__(self, log: Path | None) -> None:
        """`log` holds JSON lines with a "body" each, as examples/replay_chat_log.py reads them."""
        self.name = log.name if log else f"{MADE_UP:,} made up, of {WORDS:,} words"
        self.all = _of_log(log) if log else _made_up()

    def first(self, count: int) -> list[str]:
        """That many; they begin anew when there are fewer."""
        return list(islice(cycle(self.all), count))

    def queries(self, count: int, seed: int) -> list[str]:
        """What somebody looks for who remembers one or two words of a message, each of four letters or more."""
        chance = random.Random(seed)
        found: list[str] = []
        while len(found) < count:
            words = re.findall(r"[A-Za-z]{4,}", chance.choice(self.all))
            if words:
                found.append(" ".join(chance.sample(words, min(len(words), chance.choice((1, 2))))))
        return found


@cache
def _of_log(log: Path) -> list[str]:
    with gzip.open(log, "rt") if log.suffix == ".gz" else log.open() as lines:
        return [json.loads(line)["body"] for line in lines]


@cache
def _made_up() -> list[str]:
    chance = random.Random(1)
    words = ["".join(chance.choices(SYLLABLES, k=chance.choice((1, 2, 2, 3, 3, 4)))) for _ in range(WORDS)]
    frequencies = list(accumulate(1 / rank for rank in range(1, WORDS + 1)))
    lengths = [min(1 + int(chance.expovariate(1 / MEAN_WORDS)), 80) for _ in range(MADE_UP)]
    return [" ".join(chance.choices(words, cum_weights=frequencies, k=length)) for length in lengths]
