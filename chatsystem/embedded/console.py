"""Prints the messages of `make run`. Keeps going when stdout is closed."""

from __future__ import annotations

import os
import sys
from typing import TextIO


def say(text: str, stream: TextIO | None = None) -> None:
    """Prints the text and flushes, to stdout by default.

    A closed pipe, a lost terminal or a full disk does not end the product. Later messages are dropped.
    """
    stream = stream or sys.stdout
    # Python's stdout is None when the descriptor was closed at its start.
    if stream is None:
        return
    try:
        print(text, file=stream, flush=True)
    except OSError:
        # Replaces the descriptor, because Python writes the buffered text again when it ends.
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), stream.fileno())
