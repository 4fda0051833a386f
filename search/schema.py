"""What the API's description says of search. Documented in docs/search.md."""

from __future__ import annotations

from drf_spectacular.utils import (
    OpenApiExample,
    OpenApiResponse,
    extend_schema,
    extend_schema_serializer,
)
from rest_framework import serializers

from chatsystem.api.openapi.parameters import (
    CURSOR,
    IF_NONE_MATCH,
    LIMIT,
    TOKEN_SCHEMA,
    in_path,
    in_query,
    whole_number,
)
from chatsystem.api.openapi.schema import ADMIN_KEY, Page, describe
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


@extend_schema_serializer(many=False)
class HitPage(Page):
    """A page of hits, and the links to the pages beside it."""

    count = serializers.IntegerField(min_value=0, help_text="Of all hits.")
    results = HitSerializer(many=True)


describe(
    SearchViewSet,
    "Search",
    list=extend_schema(
        operation_id="search",
        summary="Find messages by the beginnings of words",
        description="Each word of the query begins a word of the body; all of them must, in any order. Case and accents"
        " do not matter. A run of Chinese or Japanese characters is found as a substring. Punctuation, slashes too,"
        " parts words and means nothing else; a query without a word finds nothing. Best first, newest first among"
        " equals. What was posted is found about a second later.",
        parameters=[
            in_path("query", {"type": "string"}, "Words."),
            in_query("application", TOKEN_SCHEMA, "Only messages of the application with this token."),
            in_query("chat", whole_number(1), "Only those of its chat with this number. Needs `application`."),
            LIMIT,
            CURSOR,
            IF_NONE_MATCH,
        ],
        # An application's token is the key to its own.
        auth=ADMIN_KEY,
        responses={200: OpenApiResponse(HitPage, "A page of hits.", [OpenApiExample("One hit", PAGE)])},
    ),
)
