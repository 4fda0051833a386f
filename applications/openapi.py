"""Describes the routes of applications for OpenAPI. Documented in docs/api.md."""

from __future__ import annotations

from applications.views import ApplicationViewSet
from chatsystem.api.openapi.generator import ADMIN_KEY, describe_entities
from chatsystem.api.openapi.parameters import CURSOR, LIMIT, TOKEN

describe_entities(
    ApplicationViewSet,
    example={
        "token": "5f2b8c0e9d4a4c7f8a1b3e6d7c9f0a12",
        "name": "My app",
        "chats_count": 2,
        "created_at": "2026-11-23T21:05:07.012345Z",
        "last_request_time": "2026-11-23T21:05:07.012345Z",
    },
    changed={"name": "Our app", "last_request_time": "2026-11-23T21:09:00.500000Z"},
    link="http://127.0.0.1:8000/applications?limit=1&cursor=WyJhZnRlciIsWzE3OTU0Njc5MDcwMTIzNDUsMV1d%3AKx0b",
    parents=[],
    parameters=[TOKEN],
    paging=[LIMIT, CURSOR],
    list={
        "summary": "List all applications, newest last",
        "description": "The list ends before the oldest write that is not stored yet. On the last page `next` is null;"
        " request that page again to see later arrivals.",
        "auth": ADMIN_KEY,
    },
    create={
        "summary": "Create an application",
        "description": "The response contains its token, which grants access to everything in it.",
        "auth": ADMIN_KEY,
    },
    partial_update={"summary": "Rename an application"},
)
