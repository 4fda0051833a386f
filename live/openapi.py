"""Describes tickets and events for OpenAPI. Documented in docs/live.md."""

from __future__ import annotations

from functools import partial
from typing import Any

from drf_spectacular.utils import (
    OpenApiExample,
    OpenApiParameter,
    OpenApiResponse,
    PolymorphicProxySerializer,
    extend_schema,
    extend_schema_field,
)
from rest_framework import serializers

from chats.serializers import ChatSerializer
from chatsystem.api.openapi import errors
from chatsystem.api.openapi.generator import SAMPLES, AutoSchema, invalid_bodies
from chatsystem.api.openapi.parameters import PATH, POSITION, REQUEST_ID, headers, in_header, in_query
from chatsystem.api.query_params import invalid
from live.errors import InvalidTicket
from live.serializers import MAX_CHATS, MAX_TTL, TicketSerializer
from live.views import (
    DEFAULT_WAIT,
    EVENT_STREAM,
    MAX_EVENTS,
    MAX_WAIT,
    NO_POSITION,
    ApplicationEvents,
    ChatEvents,
    EventsView,
    TicketEvents,
    TicketViewSet,
    refuse_unknown,
)
from messages_app.serializers import MessageSerializer

JSON = "application/json"


class LiveMessage(MessageSerializer):
    """A message in an event."""

    chat_number = serializers.IntegerField(min_value=1)


class LiveChat(ChatSerializer):
    """A chat in an event."""

    messages_count = None  # type: ignore[assignment]


class Reset(serializers.Serializer):
    """In place of events that cannot be delivered."""

    position = serializers.CharField(help_text="Where the events go on from.")


def event(name: str, data: serializers.Serializer) -> type[serializers.Serializer]:
    """Returns the serializer of an event in a long poll's response."""
    fields = {
        "event": serializers.ChoiceField([name]),
        "id": serializers.CharField(help_text="The position after this event."),
        "data": data,
    }
    return type(f"{name.title()}Event", (serializers.Serializer,), fields)


EVENTS = [event("message", LiveMessage()), event("chat", LiveChat()), event("reset", Reset())]


@extend_schema_field(PolymorphicProxySerializer("Event", EVENTS, resource_type_field_name=None))
class Event(serializers.Field):
    pass


class EventPage(serializers.Serializer):
    """The answer to a long poll."""

    events = serializers.ListField(child=Event(), help_text="In arrival order. Empty if nothing happened meanwhile.")
    position = serializers.CharField(help_text="Send it as `after` with the next request.")


OPERATION_IDS: dict[type, str] = {
    ApplicationEvents: "application_events",
    ChatEvents: "chat_events",
    TicketEvents: "events",
}


class EventsSchema(AutoSchema):
    """Describes a route of events: it takes no tokens of the rate limit, and nothing of it can be cached."""

    def get_override_parameters(self) -> list[Any]:
        of_ticket = [TICKET] if isinstance(self.view, TicketEvents) else []
        return [*(each for each in PATH if f"{{{each.name}}}" in self.path), *of_ticket, *PARAMETERS, REQUEST_ID]

    def get_operation(self, *args: Any) -> dict[str, Any]:
        operation: Any = super().get_operation(*args)
        answers = operation["responses"]
        for status in ("304", "412", "429"):
            answers.pop(status, None)
        answers["200"]["headers"] = headers(200, is_limited=False)
        own: dict[Any, str] = {
            **errors.anywhere(),
            invalid("after", NO_POSITION): "A malformed `after`, `limit` or `wait`.",
        }
        answers["400"] = errors.responses(own)["400"]
        if isinstance(self.view, TicketEvents):
            text = "There is no ticket, it was not issued here, or it has expired."
            answers |= errors.responses({InvalidTicket(): text})
        operation["responses"] = dict(sorted(answers.items()))
        return operation

    def get_operation_id(self) -> str:
        return OPERATION_IDS[type(self.view)]

    def get_tags(self) -> list[str]:
        return ["Live"]


TICKET = OpenApiParameter(
    "ticket", {"type": "string"}, OpenApiParameter.QUERY, required=True, description="From `POST …/tickets`."
)
PARAMETERS = [
    in_query("after", "The position after which the events begin: an event's `id`, a `Stream-Position`. Default: now."),
    in_query(
        "wait",
        "Long poll: the seconds to wait for an event.",
        type="integer",
        minimum=0,
        maximum=MAX_WAIT,
        default=DEFAULT_WAIT,
    ),
    in_query(
        "limit",
        "Long poll: the most events of the response.",
        type="integer",
        minimum=1,
        maximum=MAX_EVENTS,
        default=MAX_EVENTS,
    ),
    in_header("Last-Event-ID", "Like `after`, which it overrides. A malformed one gets a `reset`. Browsers send it."),
]
MESSAGE = {name: SAMPLES[name] for name in ("body", "created_at", "last_request_time")}
EXAMPLE = {
    "events": [{"event": "message", "id": POSITION, "data": {"chat_number": 1, "number": 1, **MESSAGE}}],
    "position": POSITION,
}
STREAM = f'retry: 2000\n\nid: {POSITION}\nevent: message\ndata: {{"chat_number": 1, "number": 1, "body": "Hello"}}\n\n'
ANSWERS = {
    (200, JSON): OpenApiResponse(EventPage, "With `Accept: application/json`, a long poll; otherwise a stream.", [
        OpenApiExample("A message", EXAMPLE)
    ]),
    (200, EVENT_STREAM): OpenApiResponse(str, examples=[OpenApiExample("A message", STREAM)]),
}  # fmt: skip

# DRF shares this object between threads. A method that `extend_schema` decorates gets one of its own each time.
EventsView.schema = EventsSchema()
extend_schema(responses=ANSWERS)(EventsView.get)


class TicketsSchema(AutoSchema):
    """Describes a POST that makes nothing with a URL."""

    def get_operation(self, *args: Any) -> dict[str, Any]:
        operation: Any = super().get_operation(*args)
        del operation["responses"]["201"]["headers"]["Location"]
        return operation


TicketViewSet.schema = TicketsSchema()
extend_schema(
    tags=["Live"],
    examples=[
        OpenApiExample("Two chats for an hour", {"chats": [1, 2]}, request_only=True),
        OpenApiExample("The application for a day", {"ttl": MAX_TTL}, request_only=True),
    ],
)(TicketViewSet.create)

#: Values of the fields that are refused, besides those of the wrong type.
INVALID: list[dict[str, Any]] = [
    *({"chats": chats} for chats in (None, 1, [], [1] * (MAX_CHATS + 1), [0], [2**63], ["1"], [None])),
    *({"ttl": ttl} for ttl in (None, "60", 9, MAX_TTL + 1)),
]
invalid_bodies[TicketViewSet] = [
    *(partial(TicketSerializer().to_internal_value, body) for body in INVALID),
    partial(refuse_unknown, [1], set()),
]
