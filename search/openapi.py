"""Describes the search route for OpenAPI. Documented in docs/search.md."""

from __future__ import annotations

from drf_spectacular.utils import OpenApiExample, OpenApiResponse, extend_schema
from rest_framework import serializers

from chatsystem.api.openapi.generator import ADMIN_KEY, describe, page_of
from chatsystem.api.openapi.parameters import (
    CURSOR,
    IF_NONE_MATCH,
    LIMIT,
    TOKEN_SCHEMA,
    in_path,
    in_query,
    whole_number,
)
from search.serializers import HitSerializer
from search.views import SearchViewSet

PAGE = {
    "count": 1,
    "next": None,
    "previous": None,
    "results": [
        {
            "application_token": "5f2b8c0e9d4a4c7f8a1b3e6d7c9f0a12",
            "chat_number": 1,
            "number": 1,
            "body": "Hello, Élan!",
            "highlight": "Hello, <em>Élan</em>!",
            "created_at": "2026-11-23T21:05:09.000002Z",
            "last_request_time": "2026-11-23T21:05:09.000002Z",
        }
    ],
}


HIT_PAGE = page_of(HitSerializer, count=serializers.IntegerField(min_value=0, help_text="The total number of hits."))

describe(
    SearchViewSet,
    "Search",
    list=extend_schema(
        operation_id="search",
        summary="Search messages by word prefixes",
        description="Each word of the query is a prefix of a word in the body. All words must match, in any order. Case"
        " and accents are ignored. A run of Chinese or Japanese characters matches as a substring. Punctuation,"
        " including slashes, separates words and is never syntax. A query without a word finds nothing. Best match"
        " first, newest first among equals. A message is found about a second after it was posted.",
        parameters=[
            in_path("query", {"type": "string"}, "The words to find."),
            in_query("application", TOKEN_SCHEMA, "Only messages of the application with this token."),
            in_query("chat", whole_number(1), "Only messages of its chat with this number. Requires `application`."),
            LIMIT,
            CURSOR,
            IF_NONE_MATCH,
        ],
        # Not needed with `application`, whose token grants access to its messages.
        auth=ADMIN_KEY,
        responses={200: OpenApiResponse(HIT_PAGE, "A page of hits.", [OpenApiExample("One hit", PAGE)])},
    ),
)
