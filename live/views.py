"""The routes of live delivery that Django serves: tickets, and a refusal in place of events. See docs/live.md."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence

from django.http import HttpResponse
from rest_framework.exceptions import ErrorDetail, ValidationError
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from applications.selectors import get_application
from chats.selectors import existing_chats
from chatsystem.api.idempotency import request_key
from chatsystem.api.negotiation import AnyAccept
from chatsystem.api.viewsets import EntityViewSet, created
from chatsystem.writelog.append import Accepted, remember
from live.errors import RETRY_SECONDS, NoEvents
from live.frames import retry
from live.serializers import TicketSerializer
from live.tickets import issue, written

EVENT_STREAM = "text/event-stream"
#: Seconds that a long poll waits, and events that it returns.
MAX_WAIT, DEFAULT_WAIT = 30, 25
MAX_EVENTS = 500
#: Of a 400 for `after`.
NO_POSITION = "Give a position from an event or a list."


class TicketViewSet(EntityViewSet):
    serializer_class = TicketSerializer

    def create(self, request: Request, token: str) -> Response:
        """Issues a ticket for a browser.

        It grants reading of the events of these chats, or of the whole application, until it expires, and nothing else.
        """
        fields = self.validated(request)
        key = request_key(request)
        get_application(token)
        numbers: list[int] | None = fields.get("chats")
        if numbers is not None:
            refuse_unknown(numbers, existing_chats(token, numbers))
        chats, ttl = None if numbers is None else frozenset(numbers), fields["ttl"]
        now = Accepted(int(time.time() * 1_000_000), "", replayed=False)
        # Of a ticket only the time is stored: the rest follows from the request.
        accepted = remember(token, key, now.arrival, "ticket", written(chats), str(ttl)) if key else now
        ticket, expires_at = issue(token, chats, ttl, accepted.arrival / 1_000_000)
        return created(request, self.represent({"ticket": ticket, "expires_at": expires_at}), accepted)


def refuse_unknown(numbers: Sequence[int], existing: Collection[int]) -> None:
    """Raises a 400 that names the index of each number that does not exist."""
    unknown = {
        str(index): [ErrorDetail("There is no such chat.", "does_not_exist")]
        for index, number in enumerate(numbers)
        if number not in existing
    }
    if unknown:
        raise ValidationError({"chats": unknown})


class EventsView(APIView):
    """Events. The live process serves them; where a request reaches Django instead, it is refused for the moment."""

    content_negotiation_class = AnyAccept
    # Not HEAD either: Django would answer it as a GET. The live process refuses the same methods.
    http_method_names = ["get"]

    def get(self, request: Request, **path: object) -> HttpResponse:
        if wants_json(request.META.get("HTTP_ACCEPT", "")):
            raise NoEvents
        # A 200: EventSource gives up on any other status, and tries again after a stream that ended.
        content = retry(RETRY_SECONDS * 1_000)
        return HttpResponse(content, content_type=EVENT_STREAM, headers={"Cache-Control": "no-store"})


class ApplicationEvents(EventsView):
    """Streams an application's events."""


class ChatEvents(EventsView):
    """Streams a chat's events."""


class TicketEvents(EventsView):
    """Streams the events that a ticket grants."""


def wants_json(accept: str) -> bool:
    """Tells whether the client asks for a long poll: its `Accept` names JSON, and no stream."""
    named = accept.lower()
    return "application/json" in named and EVENT_STREAM not in named
