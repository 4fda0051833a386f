"""What the API's description says of applications. Documented in docs/api.md."""

from __future__ import annotations

from drf_spectacular.utils import (
    OpenApiExample,
    OpenApiResponse,
    extend_schema,
    extend_schema_serializer,
)

from applications.serializers import ApplicationSerializer
from applications.views import ApplicationViewSet
from chatsystem.api.openapi.parameters import CURSOR, IDEMPOTENCY_KEY, IF_NONE_MATCH, LIMIT, TOKEN
from chatsystem.api.openapi.schema import ADMIN_KEY, Page, describe

APPLICATION = {
    "token": "5f2b8c0e9d4a4c7f8a1b3e6d7c9f0a12",
    "name": "My app",
    "chats_count": 2,
    "created_at": "2026-11-23T21:05:07.012345Z",
    "last_request_time": "2026-11-23T21:05:07.012345Z",
}
NEW = {**APPLICATION, "chats_count": 0}
RENAMED = {**APPLICATION, "name": "Our app", "last_request_time": "2026-11-23T21:09:00.500000Z"}
PAGE = {
    "next": "http://127.0.0.1:8000/applications?limit=1&cursor=YWZ0ZXIgMTc5NTQ2NzkwNzAxMjM0NSAx",
    "previous": None,
    "results": [APPLICATION],
}


@extend_schema_serializer(many=False)
class ApplicationPage(Page):
    """A page of applications, and the links to the pages beside it."""

    results = ApplicationSerializer(many=True)


describe(
    ApplicationViewSet,
    "Applications",
    list=extend_schema(
        operation_id="list_applications",
        summary="List all applications, newest last",
        description="What is stored, up to the oldest write that still waits to be. The end is `next: null`; what"
        " arrives later is found by asking for the last page again.",
        parameters=[LIMIT, CURSOR, IF_NONE_MATCH],
        auth=ADMIN_KEY,
        responses={200: OpenApiResponse(ApplicationPage, "A page.", [OpenApiExample("A page", PAGE)])},
    ),
    create=extend_schema(
        operation_id="create_application",
        summary="Create an application",
        description="The answer holds its token, the key to all that it will own.",
        parameters=[IDEMPOTENCY_KEY],
        auth=ADMIN_KEY,
        request=ApplicationSerializer,
        examples=[OpenApiExample("A name", {"name": "My app"}, request_only=True)],
        responses={201: OpenApiResponse(ApplicationSerializer, "Created.", [OpenApiExample("A new one", NEW)])},
    ),
    retrieve=extend_schema(
        operation_id="get_application",
        summary="Get an application",
        description="",
        parameters=[TOKEN, IF_NONE_MATCH],
        responses={200: OpenApiResponse(ApplicationSerializer, "It.", [OpenApiExample("An application", APPLICATION)])},
    ),
    partial_update=extend_schema(
        operation_id="update_application",
        summary="Rename an application",
        description="Moves `last_request_time`, also when the name is the same.",
        parameters=[TOKEN],
        request=ApplicationSerializer,
        examples=[OpenApiExample("Another name", {"name": "Our app"}, request_only=True)],
        responses={200: OpenApiResponse(ApplicationSerializer, "Changed.", [OpenApiExample("Renamed", RENAMED)])},
    ),
)
