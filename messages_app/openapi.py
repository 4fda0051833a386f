"""Describes the routes of messages for OpenAPI. Documented in docs/api.md."""

from __future__ import annotations

from functools import partial
from typing import Any

from drf_spectacular.utils import OpenApiExample, OpenApiResponse

from chatsystem.api.openapi.generator import describe_entities
from chatsystem.api.openapi.parameters import BY_NUMBER, TOKEN, in_path, whole_number
from messages_app.serializers import MAX_BATCH
from messages_app.views import MessageViewSet, validated_bodies

MESSAGE = {
    "number": 1,
    "body": "Hello, Élan!",
    "created_at": "2026-11-23T21:05:09.000002Z",
    "last_request_time": "2026-11-23T21:05:09.000002Z",
}
BATCH = [{"body": "Hello, Élan!"}, {"body": "How can we help?"}]
CREATED = [
    MESSAGE,
    {**MESSAGE, **BATCH[1], "number": 2}
    | dict.fromkeys(("created_at", "last_request_time"), "2026-11-23T21:05:09.000003Z"),
]
CHAT = [TOKEN, in_path("chat_number", whole_number(1), "The chat's number in its application.")]


def one_or_batch(component: str) -> dict[str, Any]:
    """Returns the schema of a message or an array of messages."""
    message = {"$ref": f"#/components/schemas/{component}"}
    return {"oneOf": [message, {"type": "array", "items": message, "minItems": 1, "maxItems": MAX_BATCH}]}


#: One element is invalid; the batch is empty, or too long.
INVALID_BATCHES: list[list[Any]] = [
    *([{"body": "x"}, element] for element in ({"body": ""}, {}, "text", None)),
    [],
    [{"body": "x"}] * (MAX_BATCH + 1),
]

describe_entities(
    MessageViewSet,
    example=MESSAGE,
    changed={"body": "Hello, Élan.", "last_request_time": "2026-11-23T21:09:00.500002Z"},
    link="http://127.0.0.1:8000/applications/5f2b8c0e9d4a4c7f8a1b3e6d7c9f0a12/chats/1/messages?limit=1&after=1",
    parents=CHAT,
    parameters=[*CHAT, in_path("number", whole_number(1), "The message's number in its chat.")],
    paging=BY_NUMBER,
    invalid_batches=[partial(validated_bodies, batch) for batch in INVALID_BATCHES],
    list={
        "summary": "List a chat's messages by number",
        "description": "Following `next` or `previous` returns each message once, even while messages arrive.",
    },
    create={
        "summary": "Post a message, or a batch",
        "description": f"A batch is an array of 1 to {MAX_BATCH} messages. They get consecutive numbers. If one of them"
        " is invalid, none is accepted. `attr` begins with the index of the invalid element, from 0 (`3.body`).",
        "request": {"application/json": one_or_batch("MessageRequest")},
        "examples": [
            OpenApiExample("One", BATCH[0], request_only=True),
            OpenApiExample("A batch", BATCH, request_only=True),
        ],
        "responses": {
            201: OpenApiResponse(
                one_or_batch("Message"),
                "The new message. For a batch, an array in the same order, without `Location`.",
                [OpenApiExample("One", MESSAGE), OpenApiExample("A batch", CREATED)],
            )
        },
    },
    partial_update={"summary": "Change a message's body"},
)
