"""Describes the health, metrics and documentation routes for OpenAPI. Documented in docs/operations.md."""

from __future__ import annotations

from drf_spectacular.utils import OpenApiExample, OpenApiResponse, extend_schema
from rest_framework import serializers

from chatsystem.api.openapi import views
from chatsystem.api.openapi.generator import ADMIN_KEY
from chatsystem.monitoring import health, metrics
from chatsystem.website import views as website

STATE = "^(ok|(degraded|down): .+)$"


class Liveness(serializers.Serializer):
    status = serializers.RegexField("^ok$")


class Dependencies(serializers.Serializer):
    """Each is `ok`, or `degraded` or `down` with the reason."""

    state = serializers.RegexField(STATE, help_text="The state Redis.")
    database = serializers.RegexField(STATE)
    search = serializers.RegexField(STATE)
    workers = serializers.RegexField(STATE)
    hosts = serializers.RegexField(
        STATE, required=False, help_text="Present while another host on this database has a different configuration."
    )


class Readiness(serializers.Serializer):
    status = serializers.ChoiceField(["ok", "degraded", "unavailable"])
    dependencies = Dependencies()


class Links(serializers.Serializer):
    health = serializers.URLField()
    docs = serializers.URLField()
    openapi = serializers.URLField()
    admin = serializers.URLField()
    demo = serializers.URLField(required=False, help_text="Absent unless DEMO is set.")


LINKS = {
    "health": "https://chat.example.com/health/ready",
    "docs": "https://chat.example.com/docs",
    "openapi": "https://chat.example.com/openapi.json",
    "admin": "https://chat.example.com/admin/",
}
READY = "Writes are accepted. `degraded`: another dependency is down or needs attention."
UNAVAILABLE = "Writes are not accepted, or too many requests are queued."
#: The server's own refusal has the common error shape.
NOT_READY = {"anyOf": [{"$ref": "#/components/schemas/Readiness"}, {"$ref": "#/components/schemas/Error"}]}
NO_STATE = {"state": "down: TimeoutError", "database": "ok", "search": "ok", "workers": "down: TimeoutError"}
NO_STATE_EXAMPLE = OpenApiExample("No state Redis", {"status": "unavailable", "dependencies": NO_STATE})
METRICS = "# TYPE chatsystem_log_events gauge\nchatsystem_log_events 0.0\n"

extend_schema(responses=Liveness)(health.live)
extend_schema(
    responses={
        200: OpenApiResponse(Readiness, READY),
        503: OpenApiResponse(NOT_READY, UNAVAILABLE, [NO_STATE_EXAMPLE]),
    }
)(health.ready)
extend_schema(
    responses={(200, "text/plain"): OpenApiResponse(str, examples=[OpenApiExample("One metric", METRICS)])},
    auth=ADMIN_KEY,
)(metrics.metrics)
extend_schema(responses={200: {"type": "object"}})(views.openapi)
extend_schema(responses={(200, "text/html"): str})(views.docs)
extend_schema(
    responses={
        (200, "application/json"): OpenApiResponse(Links, "The links, or a page.", [OpenApiExample("Links", LINKS)]),
        (200, "text/html"): str,
    }
)(website.landing)
# For people, and not on every server.
extend_schema(exclude=True)(website.demo)
