"""How each process logs: Django's LOGGING, which is also gunicorn's and Celery's. Documented in docs/operations.md."""

from __future__ import annotations

import logging
from typing import Any

from environs import Env, validate

FORMATTERS: dict[str, dict[str, Any]] = {
    "line": {
        "()": "chatsystem.logs.lines.LineFormatter",
        "format": "{asctime} {levelname} {name}: {message}",
        "style": "{",
    },
    "json": {
        "()": "chatsystem.logs.lines.JsonLineFormatter",
        "fmt": ["asctime", "levelname", "name", "message"],
        "json_ensure_ascii": False,
    },
}


def is_not_503(record: logging.LogRecord) -> bool:
    return getattr(record, "status_code", None) != 503


def from_environ() -> dict[str, Any]:
    env = Env()
    form = env.str("LOG_FORMAT", "line", validate=validate.OneOf(FORMATTERS))
    level = env.str("LOG_LEVEL", "INFO")
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {form: FORMATTERS[form]},
        "filters": {
            "request_id": {"()": "chatsystem.logs.lines.RequestIdFilter"},
            "not_503": {"()": "django.utils.log.CallbackFilter", "callback": is_not_503},
            "route_for_path": {"()": "chatsystem.logs.redaction.RouteForPath"},
            "type_for_exception": {"()": "chatsystem.logs.redaction.TypeForException"},
        },
        "handlers": {"console": {"class": "logging.StreamHandler", "formatter": form, "filters": ["request_id"]}},
        "root": {"handlers": ["console"], "level": level},
        "loggers": {
            # Django would add a line for each 404 and 503.
            "django.request": {"level": "ERROR", "filters": ["not_503", "route_for_path"]},
            # Two lines for each hint would bury the others, and so would one for each sweep.
            "celery.app.trace": {"level": "WARNING", "filters": ["type_for_exception"]},
            "celery.beat": {"level": "WARNING"},
            "celery.worker.strategy": {"level": "WARNING"},
            # A line for each request to the cluster.
            "elastic_transport": {"level": "WARNING"},
            # They come with handlers of their own: one for its process, and one for DEBUG alone.
            "gunicorn.error": {"handlers": [], "propagate": True},
            "django": {"handlers": [], "propagate": True},
        },
    }
