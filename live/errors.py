"""Refusals of events and tickets. Documented in docs/api.md."""

from __future__ import annotations

from rest_framework import status
from rest_framework.exceptions import APIException

from chatsystem.api.errors import ServiceUnavailable

#: Seconds after which a client tries again while no process serves events.
RETRY_SECONDS = 15


class InvalidTicket(APIException):
    """401: no ticket, a ticket that was not issued here, or one that has expired."""

    status_code = status.HTTP_401_UNAUTHORIZED
    default_detail = "This ticket is invalid or has expired. Request a new one."
    default_code = "invalid_ticket"
    auth_header = "Ticket"


class NoEvents(ServiceUnavailable):
    """503: events cannot be served now."""

    default_detail = "Live events cannot be served now. Try again."
    wait = RETRY_SECONDS
