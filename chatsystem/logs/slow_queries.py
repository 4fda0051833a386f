"""Logs slow statements without their values. Documented in docs/logs.md."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created
from django.dispatch import receiver

logger = logging.getLogger(__name__)

#: The placeholders of a list, logged as one.
LIST = re.compile(r"%s(?:, %s)+")
#: Maximum characters of a logged statement.
STATEMENT = 300


@receiver(connection_created)
def watch(connection: BaseDatabaseWrapper, **kwargs: object) -> None:
    # The signal is sent again each time that the same object connects.
    if log_if_slow not in connection.execute_wrappers:
        connection.execute_wrappers.append(log_if_slow)


def log_if_slow(execute: Callable[..., Any], sql: str, params: Any, many: bool, context: dict[str, Any]) -> Any:
    began = time.perf_counter()
    try:
        return execute(sql, params, many, context)
    finally:
        seconds = time.perf_counter() - began
        if seconds > settings.SLOW_QUERY_SECONDS:
            statement = LIST.sub("%s, …", sql)[:STATEMENT]
            logger.warning(
                "slow query: %.3f s: %s",
                seconds,
                statement,
                extra={"statement": statement, "seconds": round(seconds, 6)},
            )
