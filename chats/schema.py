"""What the API's description says of chats. Documented in docs/api.md."""

from __future__ import annotations

from drf_spectacular.utils import (
    OpenApiExample,
    OpenApiResponse,
    extend_schema,
    extend_schema_serializer,
)

from chats.serializers import ChatSerializer
from chats.views import ChatViewSet
from chatsystem.api.openapi.parameters import BY_NUMBER, IDEMPOTENCY_KEY, IF_NONE_MATCH, TOKEN, in_path, whole_number
from chatsystem.api.openapi.schema import Page, describe

CHAT = {
    "number": 1,
    "title": "Support",
    "messages_count": 3,
    "created_at": "2026-11-23T21:05:08.000001Z",
    "last_request_time": "2026-11-23T21:05:08.000001Z",
}
NEW = {**CHAT, "messages_count": 0}
RENAMED = {**CHAT, "title": "Help desk", "last_request_time": "2026-11-23T21:09:00.500001Z"}
PAGE = {
    "next": "http://127.0.0.1:8000/applications/5f2b8c0e9d4a4c7f8a1b3e6d7c9f0a12/chats?limit=1&after=1",
    "previous": None,
    "results": [CHAT],
}

NUMBER = in_path("number", whole_number(1), "The chat's number in its application.")


@extend_schema_serializer(many=False)
class ChatPage(Page):
    """A page of chats, and the links to the pages beside it."""

    results = ChatSerializer(many=True)


describe(
    ChatViewSet,
    "Chats",
    list=extend_schema(
        operation_id="list_chats",
        summary="List an application's chats by number",
        description="Following `next` and `previous` meets each chat once while chats arrive.",
        parameters=[TOKEN, *BY_NUMBER, IF_NONE_MATCH],
        responses={200: OpenApiResponse(ChatPage, "A page.", [OpenApiExample("A page", PAGE)])},
    ),
    create=extend_schema(
        operation_id="create_chat",
        summary="Create a chat",
        description="It gets the next number of its application.",
        parameters=[TOKEN, IDEMPOTENCY_KEY],
        request=ChatSerializer,
        examples=[OpenApiExample("A title", {"title": "Support"}, request_only=True)],
        responses={201: OpenApiResponse(ChatSerializer, "Created.", [OpenApiExample("A new one", NEW)])},
    ),
    retrieve=extend_schema(
        operation_id="get_chat",
        summary="Get a chat",
        description="",
        parameters=[TOKEN, NUMBER, IF_NONE_MATCH],
        responses={200: OpenApiResponse(ChatSerializer, "It.", [OpenApiExample("A chat", CHAT)])},
    ),
    partial_update=extend_schema(
        operation_id="update_chat",
        summary="Rename a chat",
        description="Moves `last_request_time`, also when the title is the same.",
        parameters=[TOKEN, NUMBER],
        request=ChatSerializer,
        examples=[OpenApiExample("Another title", {"title": "Help desk"}, request_only=True)],
        responses={200: OpenApiResponse(ChatSerializer, "Changed.", [OpenApiExample("Renamed", RENAMED)])},
    ),
)
