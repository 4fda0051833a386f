"""Describes the search route for OpenAPI. Documented in docs/search.md."""

from __future__ import annotations

from drf_spectacular.utils import extend_schema
from rest_framework import serializers

from chatsystem.api.openapi.generator import page_of
from chatsystem.api.openapi.parameters import NUMBER, TOKEN, in_path, in_query
from search.serializers import HitSerializer
from search.views import SearchViewSet

extend_schema(
    operation_id="search",
    tags=["Search"],
    parameters=[
        in_path("query", "The words to find."),
        in_query("application", "Only messages of the application with this token.", **TOKEN),
        in_query("chat", "Only messages of its chat with this number. Requires `application`.", **NUMBER),
    ],
    responses=page_of(
        HitSerializer, count=serializers.IntegerField(min_value=0, help_text="The total number of hits.")
    ),
)(SearchViewSet.list)
