"""Maps the exceptions of all packages to statuses, in the one error shape. Documented in docs/api.md."""

from __future__ import annotations

import logging

from django.core.exceptions import SuspiciousOperation
from django.db import InterfaceError, OperationalError
from drf_standardized_errors import handler
from rest_framework.exceptions import APIException, NotFound, ParseError
from rest_framework.response import Response

from chatsystem.api.errors import IdempotencyKeyReused, NoAnswer, ServiceUnavailable
from chatsystem.monitoring.health import reason
from chatsystem.writelog.exceptions import (
    LogFull,
    LogUnavailable,
    OutcomeUnknown,
    RequestKeyReused,
    Superseded,
    UnknownEntity,
)

logger = logging.getLogger(__name__)


class ExceptionHandler(handler.ExceptionHandler):
    """Also maps the exceptions of the write log, and those of a state Redis or database that is down."""

    def convert_known_exceptions(self, exc: Exception) -> Exception:
        if isinstance(exc, UnknownEntity):
            return NotFound()
        if isinstance(exc, RequestKeyReused):
            return IdempotencyKeyReused()
        if isinstance(exc, LogFull):
            return ServiceUnavailable("Too many writes of this application wait to be stored. Try again.")
        if isinstance(exc, OutcomeUnknown):
            return NoAnswer()
        if isinstance(exc, Superseded):
            return ServiceUnavailable("The database takes writes from another server's state. Try again.")
        if isinstance(exc, LogUnavailable | OperationalError | InterfaceError):
            return ServiceUnavailable()
        if isinstance(exc, SuspiciousOperation):
            # For example, more than 1,000 query parameters. Django's own handler also returns 400.
            return ParseError("Bad request.")
        return super().convert_known_exceptions(exc)

    def report_exception(self, exc: APIException, response: Response) -> None:
        # While a dependency is down, each request logs one line instead of a traceback.
        if isinstance(exc, ServiceUnavailable):
            logger.warning("answered 503: %s", reason(self.exc))
        else:
            super().report_exception(exc, response)
