"""Generates OpenAPI 3.1 from the code, and adds what drf-spectacular cannot see. Documented in docs/api.md.

A view's docstring is its summary and description. A package's `openapi.py` describes what differs from the conventions
here. docs/decisions.md says why drf-standardized-errors' AutoSchema is not used.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from http import HTTPStatus
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from django.utils.module_loading import autodiscover_modules
from drf_spectacular import openapi
from drf_spectacular.extensions import OpenApiSerializerFieldExtension
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.utils import OpenApiParameter, extend_schema_field, extend_schema_serializer
from rest_framework import serializers

from chatsystem.api.fields import Moment, Text
from chatsystem.api.negotiation import Negotiation
from chatsystem.api.openapi import errors
from chatsystem.api.openapi.parameters import headers, parameters

INTRODUCTION = Path(__file__).parent / "introduction.md"
LOCATIONS = [OpenApiParameter.PATH, OpenApiParameter.QUERY, OpenApiParameter.HEADER]
MOMENT = r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{6}Z$"
OPERATION_IDS = {"list": "list_{}s", "create": "create_{}", "retrieve": "get_{}", "partial_update": "update_{}"}
#: For routes that span applications. The empty alternative is for a server without a key.
ADMIN_KEY: Any = [{"adminKey": []}, {}]
SECURITY_SCHEMES = {
    "adminKey": {
        "type": "http",
        "scheme": "bearer",
        "description": "`ADMIN_API_KEY`, for routes that span applications. Not needed where it is not set.",
    }
}
#: The values in the examples, by the names of the properties. Other numbers have their minimum.
SAMPLES = {
    "token": "5f2b8c0e9d4a4c7f8a1b3e6d7c9f0a12",
    "application_token": "5f2b8c0e9d4a4c7f8a1b3e6d7c9f0a12",
    "name": "My app",
    "title": "Support",
    "body": "Hello, Élan!",
    "highlight": "Hello, <em>Élan</em>!",
    **dict.fromkeys(("status", "state", "database", "search", "workers", "live"), "ok"),
    "count": 1,
    "ticket": f"5d41402abc4b2a76b9719d911017c592.29.1795453507.1-2.{'x' * 43}",
    "expires_at": "2026-11-23T22:05:07.000000Z",
    "created_at": "2026-11-23T21:05:07.012345Z",
    "last_request_time": "2026-11-23T21:05:07.012345Z",
}
AFTER_A_PATCH = {**SAMPLES, "last_request_time": "2026-11-23T21:09:00.500000Z"}

#: Attempts to validate an invalid body, besides a text that is invalid: by the views that accept more than one text.
invalid_bodies: dict[type, Sequence[Callable[[], object]]] = {}


class Generator(SchemaGenerator):
    def get_schema(self, request: Any = None, public: bool = False) -> dict[str, Any]:
        autodiscover_modules("openapi")
        described: dict[str, Any] = super().get_schema(request, public)
        described["info"]["description"] = INTRODUCTION.read_text(encoding="utf-8")
        described["components"]["securitySchemes"] = SECURITY_SCHEMES
        described["components"]["responses"] = errors.responses(errors.anywhere())
        for method, operation in (each for path in described["paths"].values() for each in path.items()):
            for message in (operation.get("requestBody", {}), *operation["responses"].values()):
                for content in message.get("content", {}).values():
                    samples = AFTER_A_PATCH if method == "patch" else SAMPLES
                    if "examples" in content:
                        continue
                    if found := examples(content["schema"], described["components"]["schemas"], samples):
                        content["examples"] = found
        return described


def examples(schema: dict[str, Any], components: dict[str, Any], samples: dict[str, Any]) -> dict[str, Any]:
    """Returns an example of each alternative of a schema, made of samples."""

    def value(schema: dict[str, Any], name: str = "") -> Any:
        if "$ref" in schema:
            return value(components[schema["$ref"].rpartition("/")[2]])
        if "properties" in schema:
            return {each: value(of, each) for each, of in schema["properties"].items() if each in schema["required"]}
        return [value(schema["items"])] if "items" in schema else samples.get(name, schema.get("minimum"))

    values = {"A batch" if "items" in each else "One": value(each) for each in schema.get("oneOf", [schema])}
    return {name: {"value": found} for name, found in values.items() if found is not None}


class Page(serializers.Serializer):
    """A page, with links to its neighbours."""

    next = serializers.URLField(allow_null=True, help_text="The next page in the requested order.")
    previous = serializers.URLField(allow_null=True, help_text="The previous page. A first page has none.")


def page_of(serializer: type[serializers.Serializer], **fields: serializers.Field) -> type[Page]:
    """Returns the serializer of a page of these. `fields` come before the results."""
    name = serializer.__name__.replace("Serializer", "Page")
    return extend_schema_serializer(many=False)(type(name, (Page,), {**fields, "results": serializer(many=True)}))


def without_trailing_slashes(endpoints: list[tuple]) -> list[tuple]:
    """Drops the routes with a trailing slash, which duplicate the others."""
    return [endpoint for endpoint in endpoints if endpoint[0] == "/" or not endpoint[0].endswith("/")]


class AutoSchema(openapi.AutoSchema):
    """Describes an operation with every status, header and error code that it can have."""

    def get_operation(self, *args: Any) -> dict[str, Any] | None:
        """Returns None for a view that is excluded."""
        #: What a viewset does. Other views have none.
        self.action = getattr(self.view, "action", "")
        operation: Any = super().get_operation(*args)
        if operation is None:
            return None
        operation["parameters"].sort(key=lambda parameter: LOCATIONS.index(parameter["in"]))
        if "requestBody" in operation:
            # A missing body counts as an empty object, and each operation needs a field.
            operation["requestBody"]["required"] = True
        answers = operation["responses"]
        is_get, is_limited = self.method == "GET", "{" in self.path
        if is_get:
            answers["304"] = {"description": "Nothing has changed since the response with this ETag."}
        # Streams show what the lists of an application hold.
        is_streamed = self.action == "list" and "{token}" in self.path
        for status, answer in answers.items():
            answer["description"] = answer["description"] or HTTPStatus(int(status)).phrase
            answer["headers"] = headers(int(status), is_get, bool(self.action), is_limited, is_streamed)
        operation["responses"] = dict(sorted({**self._errors(), **answers}.items()))
        return operation

    def _errors(self) -> dict[str, Any]:
        """Returns the error statuses. Only 400 differs between the routes that have it."""
        self.resolve_serializer(errors.Error, "response")
        has_body = self.method in ("POST", "PATCH")
        own: dict[Any, str] = {}
        if has_body:
            own |= errors.BODY | dict.fromkeys(map(errors.raised_by, self._invalid_bodies()), "")
        if self.method == "POST":
            own |= errors.KEY
        if self.action == "list":
            own |= errors.PARAMETERS
        # A path with a parameter belongs to one application, or may.
        applies = {
            "401": bool(self.get_auth()),
            "404": "{" in self.path,
            "406": isinstance(self.view.get_content_negotiator(), Negotiation),
            "413": has_body,
            "415": has_body,
            "422": self.method == "POST",
            "429": "{" in self.path,
        }
        return {
            status: response if own and status == "400" else {"$ref": f"#/components/responses/{status}"}
            for status, response in errors.responses(own | errors.anywhere()).items()
            if applies.get(status, True)
        }

    def _invalid_bodies(self) -> list[Callable[[], object]]:
        """Returns an attempt to validate each kind of invalid body."""
        view: Any = self.view
        bodies: list[object] = ["text"]
        for field in view.serializer_class().fields.values():
            if field.required:
                bodies.append({})
            if isinstance(field, Text) and not field.read_only:
                texts: list[object] = [None, "", 7, "x" * ((field.max_length or 0) + 1), "\0", "\ud800"]
                bodies += [{field.field_name: text} for text in texts]
        single = [lambda body=body: view.validated(SimpleNamespace(data=body)) for body in bodies]
        return [*single, *invalid_bodies.get(type(view), ())]

    def get_operation_id(self) -> str:
        name = type(self.view).__name__
        return OPERATION_IDS.get(self.action, "{}").format(name.removesuffix("ViewSet").lower())

    def get_tags(self) -> list[str]:
        return [type(self.view).__name__.replace("ViewSet", "s") if self.action else "Service"]

    def get_summary(self) -> str:
        """Returns the first line of the view's docstring."""
        return super().get_description().partition("\n")[0].removesuffix(".")

    def get_description(self) -> str:  # type: ignore[override]
        """Returns the rest of the view's docstring."""
        return " ".join(super().get_description().partition("\n")[2].split())

    def get_auth(self) -> list[Any]:
        """Returns what a route that spans applications needs. A search with `application` does not need it."""
        return ADMIN_KEY if self.action and "{token}" not in self.path else []

    def get_override_parameters(self) -> list[Any]:
        return parameters(self.path, self.method, self.action == "list")

    def get_response_serializers(self) -> Any:
        found: Any = super().get_response_serializers()
        return page_of(found) if self.action == "list" else found


class ChoiceSchema(OpenApiSerializerFieldExtension):
    target_class = "rest_framework.fields.ChoiceField"

    def map_serializer_field(self, auto_schema: openapi.AutoSchema, direction: Any) -> dict[str, Any]:
        return {"type": "string", "enum": list(self.target.choices)}


# drf-spectacular adds the maximum length. JSON Schema counts code points, as the field does. No pattern matches lone
# surrogates.
extend_schema_field({"type": "string", "minLength": 1, "pattern": "^[^\\u0000]*$"})(Text)
extend_schema_field({"type": "string", "format": "date-time", "pattern": MOMENT})(Moment)
