"""Describes the health, metrics and documentation routes for OpenAPI. Documented in docs/operations.md."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import (
    OpenApiExample,
    OpenApiResponse,
    extend_schema,
    extend_schema_field,
)
from rest_framework import serializers

from chatsystem.api.openapi import views
from chatsystem.api.openapi.generator import ADMIN_KEY, describe
from chatsystem.api.openapi.parameters import IF_NONE_MATCH
from chatsystem.monitoring import health, metrics

STATE = "^(ok|(degraded|down): .+)$"


class Liveness(serializers.Serializer):
    status = serializers.RegexField("^ok$")


class Dependencies(serializers.Serializer):
    state = serializers.RegexField(STATE, help_text="The state Redis.")
    database = serializers.RegexField(STATE)
    search = serializers.RegexField(STATE)
    workers = serializers.RegexField(STATE)
    hosts = serializers.RegexField(
        STATE, required=False, help_text="Present while another host on this database has a different configuration."
    )


@extend_schema_field({"type": "string", "enum": ["ok", "degraded", "unavailable"]})
class Status(serializers.CharField):
    """`unavailable` if writes are not accepted."""


class Readiness(serializers.Serializer):
    status = Status()
    dependencies = Dependencies(help_text="Each is `ok`, or `degraded` or `down` with the reason.")


ALL_OK = {"state": "ok", "database": "ok", "search": "ok", "workers": "ok"}
NO_STATE = {**ALL_OK, "state": "down: TimeoutError", "workers": "down: TimeoutError"}
UNAVAILABLE = {"status": "unavailable", "dependencies": NO_STATE}
#: A refusal by the server itself has the common error shape.
NOT_READY = {"anyOf": [{"$ref": f"#/components/schemas/{name}"} for name in ("Readiness", "Error")]}
METRICS = """\
# HELP chatsystem_log_events Acknowledged events that are not stored yet.
# TYPE chatsystem_log_events gauge
chatsystem_log_events 0.0
"""


def service(view: Any, name: str, summary: str, description: str, responses: dict[Any, Any], **more: Any) -> None:
    operation = {"operation_id": name, "summary": summary, "description": description, "responses": responses, **more}
    describe(view, "Service", get=extend_schema(parameters=[IF_NONE_MATCH], **operation))


def answer(schema: Any, description: str, example: Any = None, status: int = 200) -> OpenApiResponse:
    shown = [OpenApiExample("An example", example, status_codes=[str(status)])] if example else []
    return OpenApiResponse(schema, description, shown)


service(
    health.live,
    "live",
    "Liveness",
    "Says that the process answers. It checks no dependency. For supervisors that restart processes.",
    {200: answer(Liveness, "The process answers.", {"status": "ok"})},
)
service(
    health.ready,
    "ready",
    "Readiness",
    "Says whether writes are accepted, and lists each dependency with its state. For load balancers and people.",
    {
        200: answer(
            Readiness,
            "Writes are accepted. `degraded`: another dependency is down or needs attention.",
            {"status": "ok", "dependencies": ALL_OK},
        ),
        503: answer(NOT_READY, "Writes are not accepted, or too many requests are queued.", UNAVAILABLE, 503),
    },
)
service(
    metrics.metrics,
    "metrics",
    "Metrics for Prometheus",
    "In the Prometheus text format, whatever `Accept` says.",
    {(200, "text/plain"): answer(str, "The metrics.", METRICS)},
    auth=ADMIN_KEY,
)
service(
    views.openapi,
    "openapi",
    "This description",
    "OpenAPI 3.1, as JSON whatever `Accept` says.",
    {200: answer({"type": "object"}, "The description.")},
)
service(
    views.docs,
    "docs",
    "This description as a page",
    "HTML, whatever `Accept` says. The page loads nothing from other hosts.",
    {(200, "text/html"): answer(str, "The page.")},
)
