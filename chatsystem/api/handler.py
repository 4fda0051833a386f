"""From exceptions to answers: what each room raises, as one status and one shape. Documented in docs/api.md."""

from __future__ import annotations

import logging

from django.core.exceptions import SuspiciousOperation
from django.db import InterfaceError, OperationalError
from drf_standardized_errors import handler
from rest_framework.exceptions import APIException, NotFound, ParseError
from rest_framework.response import Response

from chatsystem.api.errors import IdempotencyKeyReused, NoAnswer, ServiceUnavailable
from chatsystem.writelog.log import LogFull, OutcomeUnknown, RequestIdReused, UnknownEntity
from chatsystem.writelog.state import LogUnavailable

logger = logging.getLogger(__name__)


class ExceptionHandler(handler.ExceptionHandler):
    """Knows, beside DRF's own exceptions, what the state Redis and the database raise when they are away."""

    def convert_known_exceptions(self, exc: Exception) -> Exception:
        if isinstance(exc, UnknownEntity):
            return NotFound()
        if isinstance(exc, RequestIdReused):
            return IdempotencyKeyReused()
        if isinstance(exc, LogFull):
            return ServiceUnavailable("Too many writes of this application wait to be stored. Try again.")
        if isinstance(exc, OutcomeUnknown):
            return NoAnswer()
        if isinstance(exc, LogUnavailable | OperationalError | InterfaceError):
            return ServiceUnavailable()
        if isinstance(exc, SuspiciousOperation):
            # More than a thousand query parameters, for one. Django's own handler makes a 400 of it too.
            return ParseError("Bad request.")
        return super().convert_known_exceptions(exc)

    def report_exception(self, exc: APIException, response: Response) -> None:
        # A part that is away is one line, not a traceback for each request meanwhile.
        if isinstance(exc, ServiceUnavailable):
            logger.warning("answered 503: %s", type(self.exc).__name__)
        else:
            super().report_exception(exc, response)
