"""What the API's description says of the routes that look after the service. Documented in docs/operations.md."""

from __future__ import annotations

from drf_spectacular.utils import (
    OpenApiExample,
    OpenApiResponse,
    extend_schema,
    extend_schema_field,
)
from rest_framework import serializers

from chatsystem import health, metrics
from chatsystem.api.openapi import views
from chatsystem.api.openapi.parameters import IF_NONE_MATCH
from chatsystem.api.openapi.schema import ADMIN_KEY, describe

STATE = "^(ok|(degraded|down): .+)$"


class Liveness(serializers.Serializer):
    status = serializers.RegexField("^ok$")


class Dependencies(serializers.Serializer):
    state = serializers.RegexField(STATE, help_text="The state Redis.")
    database = serializers.RegexField(STATE)
    search = serializers.RegexField(STATE)
    workers = serializers.RegexField(STATE)


@extend_schema_field({"type": "string", "enum": ["ok", "degraded", "unavailable"]})
class Status(serializers.CharField):
    """`unavailable` when writes are not accepted."""


class Readiness(serializers.Serializer):
    status = Status()
    dependencies = Dependencies(help_text="Each is `ok`, or `degraded` or `down` and why.")


ALL_OK = {"state": "ok", "database": "ok", "search": "ok", "workers": "ok"}
NO_STATE = {**ALL_OK, "state": "down: TimeoutError", "workers": "down: TimeoutError"}
UNAVAILABLE = {"status": "unavailable", "dependencies": NO_STATE}
#: The server's own refusal has the shape of all errors.
NOT_READY = {"anyOf": [{"$ref": f"#/components/schemas/{name}"} for name in ("Readiness", "Error")]}
METRICS = """\
# HELP chatsystem_log_events Acknowledged events that are not stored yet.
# TYPE chatsystem_log_events gauge
chatsystem_log_events 0.0
"""


describe(
    health.live,
    "Service",
    get=extend_schema(
        operation_id="live",
        summary="Does the process answer?",
        description="Asks nothing of what it depends on: for whoever restarts processes.",
        parameters=[IF_NONE_MATCH],
        responses={200: OpenApiResponse(Liveness, "It does.", [OpenApiExample("Alive", {"status": "ok"})])},
    ),
)


describe(
    health.ready,
    "Service",
    get=extend_schema(
        operation_id="ready",
        summary="Are writes accepted?",
        description="Names each dependency with its state: for load balancers and people.",
        parameters=[IF_NONE_MATCH],
        responses={
            200: OpenApiResponse(
                Readiness,
                "They are; `degraded` while something else is away.",
                [OpenApiExample("All is well", {"status": "ok", "dependencies": ALL_OK}, status_codes=["200"])],
            ),
            503: OpenApiResponse(
                NOT_READY,
                "They are not; or too many requests wait to be answered.",
                [OpenApiExample("No state Redis", UNAVAILABLE, status_codes=["503"])],
            ),
        },
    ),
)


describe(
    metrics.metrics,
    "Service",
    get=extend_schema(
        operation_id="metrics",
        summary="Metrics for Prometheus",
        description="In Prometheus' text format, whatever `Accept` says.",
        parameters=[IF_NONE_MATCH],
        auth=ADMIN_KEY,
        responses={(200, "text/plain"): OpenApiResponse(str, "The metrics.", [OpenApiExample("One of them", METRICS)])},
    ),
)


describe(
    views.openapi,
    "Service",
    get=extend_schema(
        operation_id="openapi",
        summary="This description",
        description="OpenAPI 3.1, as JSON whatever `Accept` says.",
        parameters=[IF_NONE_MATCH],
        responses={200: OpenApiResponse({"type": "object"}, "The description.")},
    ),
)


describe(
    views.docs,
    "Service",
    get=extend_schema(
        operation_id="docs",
        summary="This description as a page",
        description="HTML, whatever `Accept` says. It loads nothing from other hosts.",
        parameters=[IF_NONE_MATCH],
        responses={(200, "text/html"): OpenApiResponse(str, "The page.")},
    ),
)
