"""Keeps tokens and texts out of the logs. Documented in docs/security.md.

A path holds a token. An exception's message may hold a row, a request's text or a key.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Iterator


class RouteForPath(logging.Filter):
    """For `django.request`: logs the route in place of the path, and a traceback without the exceptions' messages."""

    def filter(self, record: logging.LogRecord) -> bool:
        if "request" not in record.__dict__:
            # Already filtered: gunicorn and Django both configure logging, and a logger keeps its earlier filters.
            return True
        # Removed from the record, since a formatter or handler may print the request, and its repr is the path.
        match = getattr(record.__dict__.pop("request"), "resolver_match", None)
        record.msg = "answered %s at %s"
        record.args = (getattr(record, "status_code", None), match.route if match else "no route")
        if record.exc_info and record.exc_info[1]:
            record.exc_text = without_values(record.exc_info[1])
            record.exc_info = None
        return True


class TypeForException(logging.Filter):
    """For `celery.app.trace`: logs the type of a failed task's exception, and a traceback without messages."""

    def filter(self, record: logging.LogRecord) -> bool:
        if record.exc_info and record.exc_info[1] and isinstance(record.args, dict):
            clean = without_values(record.exc_info[1])
            # In place, since the record holds the same dictionary a second time, as `data`.
            record.args |= {"exc": type(record.exc_info[1]).__name__, "traceback": clean}
            record.exc_text = clean
            record.exc_info = None
        return True


def without_values(error: BaseException) -> str:
    """Returns the traceback with the types of the exceptions, without their messages."""
    lines = []
    for each in reversed(list(_chain(error))):
        lines += traceback.format_tb(each.__traceback__)
        lines.append(f"{type(each).__module__}.{type(each).__qualname__}\n")
    return "".join(lines).rstrip()


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yields the exception, its cause or context, and so on."""
    while error is not None:
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
