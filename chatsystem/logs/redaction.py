"""Logs without tokens and bodies. Documented in docs/security.md.

A path holds a token, and what an exception says may hold anything: a row, a request's text, a key.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Iterator


class RouteForPath(logging.Filter):
    """For `django.request`: a record names the route, and where it went wrong without what the exceptions say."""

    def filter(self, record: logging.LogRecord) -> bool:
        if "request" not in record.__dict__:
            # It has been here: a logger keeps its filters when it is configured again, as gunicorn and Django both do.
            return True
        # Not left there: a formatter or handler may print it, and its representation is the path.
        match = getattr(record.__dict__.pop("request"), "resolver_match", None)
        record.msg = "answered %s at %s"
        record.args = (getattr(record, "status_code", None), match.route if match else "no route")
        if record.exc_info and record.exc_info[1]:
            record.exc_text = without_values(record.exc_info[1])
            record.exc_info = None
        return True


class TypeForException(logging.Filter):
    """For `celery.app.trace`: a task that failed is told with its exception's type, and the traceback likewise."""

    def filter(self, record: logging.LogRecord) -> bool:
        if record.exc_info and record.exc_info[1] and isinstance(record.args, dict):
            told = without_values(record.exc_info[1])
            # In place: the record has it a second time, as `data`.
            record.args |= {"exc": type(record.exc_info[1]).__name__, "traceback": told}
            record.exc_text = told
            record.exc_info = None
        return True


def without_values(error: BaseException) -> str:
    """The traceback, and the types of the exceptions without their words."""
    lines = []
    for each in reversed(list(_chain(error))):
        lines += traceback.format_tb(each.__traceback__)
        lines.append(f"{type(each).__module__}.{type(each).__qualname__}\n")
    return "".join(lines).rstrip()


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """The exception, what it came of, and so on."""
    while error is not None:
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
