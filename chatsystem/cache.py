"""Asking the cache, which may be away: nothing that is right or wrong rests on its answers."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

logger = logging.getLogger(__name__)


def asked(question: Callable[[], T], otherwise: T) -> T:
    """The cache's answer, and `otherwise` while it is away."""
    try:
        return question()
    except Exception as error:  # Each cache's driver has classes of its own.
        logger.debug("the cache is away: %s", error)
        return otherwise
