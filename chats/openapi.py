"""Describes the routes of chats for OpenAPI. Documented in docs/api.md."""

from __future__ import annotations

from chats.views import ChatViewSet
from chatsystem.api.openapi.generator import describe_entities
from chatsystem.api.openapi.parameters import BY_NUMBER, TOKEN, in_path, whole_number

describe_entities(
    ChatViewSet,
    example={
        "number": 1,
        "title": "Support",
        "messages_count": 3,
        "created_at": "2026-11-23T21:05:08.000001Z",
        "last_request_time": "2026-11-23T21:05:08.000001Z",
    },
    changed={"title": "Help desk", "last_request_time": "2026-11-23T21:09:00.500001Z"},
    link="http://127.0.0.1:8000/applications/5f2b8c0e9d4a4c7f8a1b3e6d7c9f0a12/chats?limit=1&after=1",
    parents=[TOKEN],
    parameters=[TOKEN, in_path("number", whole_number(1), "The chat's number in its application.")],
    paging=BY_NUMBER,
    list={
        "summary": "List an application's chats by number",
        "description": "Following `next` or `previous` returns each chat once, even while chats arrive.",
    },
    create={"summary": "Create a chat", "description": "It gets the next number of its application."},
    partial_update={"summary": "Rename a chat"},
)
