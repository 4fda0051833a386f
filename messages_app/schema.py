"""What the API's description says of messages. Documented in docs/api.md."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import (
    OpenApiExample,
    OpenApiResponse,
    extend_schema,
    extend_schema_serializer,
)

from chatsystem.api.openapi.parameters import BY_NUMBER, IDEMPOTENCY_KEY, IF_NONE_MATCH, TOKEN, in_path, whole_number
from chatsystem.api.openapi.schema import Page, describe
from messages_app.serializers import MAX_BATCH, MessageSerializer
from messages_app.views import MessageViewSet, validated_bodies

MESSAGE = {
    "number": 1,
    "body": "Hello, Élan!",
    "created_at": "2026-11-23T21:05:09.000002Z",
    "last_request_time": "2026-11-23T21:05:09.000002Z",
}
NEXT = {
    "number": 2,
    "body": "How can we help?",
    "created_at": "2026-11-23T21:05:09.000003Z",
    "last_request_time": "2026-11-23T21:05:09.000003Z",
}
CHANGED = {**MESSAGE, "body": "Hello, Élan.", "last_request_time": "2026-11-23T21:09:00.500002Z"}
PAGE = {
    "next": "http://127.0.0.1:8000/applications/5f2b8c0e9d4a4c7f8a1b3e6d7c9f0a12/chats/1/messages?limit=2&after=2",
    "previous": None,
    "results": [MESSAGE, NEXT],
}

CHAT_NUMBER = in_path("chat_number", whole_number(1), "The chat's number in its application.")
NUMBER = in_path("number", whole_number(1), "The message's number in its chat.")


@extend_schema_serializer(many=False)
class MessagePage(Page):
    """A page of messages, and the links to the pages beside it."""

    results = MessageSerializer(many=True)


def one_or_batch(component: str) -> dict[str, Any]:
    """A message, or an array of them."""
    message = {"$ref": f"#/components/schemas/{component}"}
    return {"oneOf": [message, {"type": "array", "items": message, "minItems": 1, "maxItems": MAX_BATCH}]}


describe(
    MessageViewSet,
    "Messages",
    # A second element that is wrong, in each way; a batch without elements, and one of too many.
    wrong_batches=[
        lambda: validated_bodies([{"body": "x"}, {"body": ""}]),
        lambda: validated_bodies([{"body": "x"}, {}]),
        lambda: validated_bodies([{"body": "x"}, "text"]),
        lambda: validated_bodies([{"body": "x"}, None]),
        lambda: validated_bodies([]),
        lambda: validated_bodies([{"body": "x"}] * (MAX_BATCH + 1)),
    ],
    list=extend_schema(
        operation_id="list_messages",
        summary="List a chat's messages by number",
        description="Following `next` and `previous` meets each message once while messages arrive.",
        parameters=[TOKEN, CHAT_NUMBER, *BY_NUMBER, IF_NONE_MATCH],
        responses={200: OpenApiResponse(MessagePage, "A page.", [OpenApiExample("A page", PAGE)])},
    ),
    create=extend_schema(
        operation_id="create_message",
        summary="Post a message, or a batch",
        description=f"A batch is an array of 1 to {MAX_BATCH} messages. They get one contiguous run of numbers, or,"
        " when one of them is wrong, none: `attr` begins with the index of the wrong element, from 0 (`3.body`).",
        parameters=[TOKEN, CHAT_NUMBER, IDEMPOTENCY_KEY],
        request={"application/json": one_or_batch("MessageRequest")},
        examples=[
            OpenApiExample("One", {"body": "Hello, Élan!"}, request_only=True),
            OpenApiExample("A batch", [{"body": "Hello, Élan!"}, {"body": "How can we help?"}], request_only=True),
        ],
        responses={
            201: OpenApiResponse(
                one_or_batch("Message"),
                "Created; of a batch, an array in the same order, without `Location`.",
                [OpenApiExample("One", MESSAGE), OpenApiExample("A batch", [MESSAGE, NEXT])],
            )
        },
    ),
    retrieve=extend_schema(
        operation_id="get_message",
        summary="Get a message",
        description="",
        parameters=[TOKEN, CHAT_NUMBER, NUMBER, IF_NONE_MATCH],
        responses={200: OpenApiResponse(MessageSerializer, "It.", [OpenApiExample("A message", MESSAGE)])},
    ),
    partial_update=extend_schema(
        operation_id="update_message",
        summary="Change a message's body",
        description="Moves `last_request_time`, also when the body is the same.",
        parameters=[TOKEN, CHAT_NUMBER, NUMBER],
        request=MessageSerializer,
        examples=[OpenApiExample("Another body", {"body": "Hello, Élan."}, request_only=True)],
        responses={200: OpenApiResponse(MessageSerializer, "Changed.", [OpenApiExample("Changed", CHANGED)])},
    ),
)
