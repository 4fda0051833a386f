"""Describes the batches of messages for OpenAPI. Documented in docs/api.md."""

from __future__ import annotations

from functools import partial
from typing import Any

from drf_spectacular.utils import extend_schema

from chatsystem.api.openapi.generator import invalid_bodies
from messages_app.serializers import MAX_BATCH
from messages_app.views import MessageViewSet, validated_bodies


def one_or_batch(component: str) -> dict[str, Any]:
    """Returns the schema of a message or an array of messages."""
    message = {"$ref": f"#/components/schemas/{component}"}
    return {"oneOf": [message, {"type": "array", "items": message, "minItems": 1, "maxItems": MAX_BATCH}]}


extend_schema(request={"application/json": one_or_batch("MessageRequest")}, responses={201: one_or_batch("Message")})(
    MessageViewSet.create
)

#: One element is invalid; the batch is empty, or too long.
INVALID: list[list[Any]] = [
    *([{"body": "x"}, element] for element in ({"body": ""}, {}, "text", None)),
    [],
    [{"body": "x"}] * (MAX_BATCH + 1),
]
invalid_bodies[MessageViewSet] = [partial(validated_bodies, batch) for batch in INVALID]
