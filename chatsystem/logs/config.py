"""The logging configuration of every process: Django, gunicorn and Celery. Documented in docs/logs.md."""

from __future__ import annotations

import logging
from typing import Any

from chatsystem.conf.environment import env

#: The level names that `logging` accepts.
LEVELS = ["DEBUG", "INFO", "WARNING", "WARN", "ERROR", "CRITICAL", "FATAL"]

FORMATTERS: dict[str, dict[str, Any]] = {
    "line": {
        "()": "chatsystem.logs.formatters.LineFormatter",
        "format": "{asctime} {levelname} {name}: {message}",
        "style": "{",
    },
    "json": {
        "()": "chatsystem.logs.formatters.JsonLineFormatter",
        "fmt": ["asctime", "levelname", "name", "message"],
        "json_ensure_ascii": False,
    },
}


def is_not_503(record: logging.LogRecord) -> bool:
    return getattr(record, "status_code", None) != 503


def from_environ() -> dict[str, Any]:
    form = env.choice("LOG_FORMAT", "line", FORMATTERS)
    level = env.choice("LOG_LEVEL", "INFO", LEVELS)
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {form: FORMATTERS[form]},
        "filters": {
            "request_id": {"()": "chatsystem.logs.formatters.RequestIdFilter"},
            "not_503": {"()": "django.utils.log.CallbackFilter", "callback": is_not_503},
            "route_for_path": {"()": "chatsystem.logs.redaction.RouteForPath"},
            "type_for_exception": {"()": "chatsystem.logs.redaction.TypeForException"},
        },
        "handlers": {"console": {"class": "logging.StreamHandler", "formatter": form, "filters": ["request_id"]}},
        "root": {"handlers": ["console"], "level": level},
        "loggers": {
            # Drops Django's line for each 404 and 503.
            "django.request": {"level": "ERROR", "filters": ["not_503", "route_for_path"]},
            # Two lines for each hint and one for each sweep would bury the others.
            "celery.app.trace": {"level": "WARNING", "filters": ["type_for_exception"]},
            "celery.beat": {"level": "WARNING"},
            "celery.worker.strategy": {"level": "WARNING"},
            # Drops the line for each request to the cluster.
            "elastic_transport": {"level": "WARNING"},
            # Both come with handlers of their own. Their lines go to the root's handler instead.
            "gunicorn.error": {"handlers": [], "propagate": True},
            "django": {"handlers": [], "propagate": True},
        },
    }
