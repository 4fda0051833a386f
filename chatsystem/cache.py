"""Asking the cache, which may be away: nothing that is right or wrong rests on its answers."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeVar

import redis
from django.dispatch import receiver
from django_redis import get_redis_connection

from chatsystem.silence import gone_silent

T = TypeVar("T")

logger = logging.getLogger(__name__)


def asked(question: Callable[[], T], otherwise: T) -> T:
    """The cache's answer, and `otherwise` while it is away."""
    try:
        return question()
    except Exception as error:  # Each cache's driver has classes of its own.
        logger.debug("the cache is away: %s", error)
        if isinstance(error, redis.TimeoutError):
            gone_silent.send(None)
        return otherwise


@receiver(gone_silent)
def _drop_idle(**kwargs: object) -> None:
    get_redis_connection("default").connection_pool.disconnect(inuse_connections=False)
