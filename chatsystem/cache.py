"""The cache may be down at any time. No correctness depends on it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeVar

import redis
from django.dispatch import receiver
from django_redis import get_redis_connection

from chatsystem.signals import connection_stale

T = TypeVar("T")

logger = logging.getLogger(__name__)


def with_fallback(operation: Callable[[], T], fallback: T) -> T:
    """Returns what the cache operation returns, or `fallback` while the cache is down."""
    try:
        return operation()
    except Exception as error:  # Each cache driver has its own exception classes.
        logger.debug("the cache is down: %s", error)
        if isinstance(error, redis.TimeoutError):
            connection_stale.send(None)
        return fallback


@receiver(connection_stale)
def _drop_idle(**kwargs: object) -> None:
    get_redis_connection("default").connection_pool.disconnect(inuse_connections=False)
