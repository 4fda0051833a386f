"""OpenAPI 3.1 from the code: what drf-spectacular cannot see of it. Documented in docs/api.md.

What the routes of a room say is in its own schema.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from django.utils.module_loading import autodiscover_modules
from drf_spectacular import openapi
from drf_spectacular.extensions import OpenApiSerializerFieldExtension, OpenApiViewExtension
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.plumbing import ResolvedComponent
from drf_spectacular.utils import OpenApiParameter, extend_schema, extend_schema_view
from rest_framework import serializers
from rest_framework.views import APIView

from chatsystem.api.negotiation import Negotiation
from chatsystem.api.openapi import errors
from chatsystem.api.openapi.parameters import (
    CACHE_CONTROL,
    CREATED,
    ETAG,
    IDEMPOTENCY_KEY,
    IF_NONE_MATCH,
    LIMIT,
    REQUEST_ID,
    TOKEN,
    rate_limit,
    request_id,
)
from chatsystem.api.views import EntityViewSet

INTRODUCTION = Path(__file__).parent / "introduction.md"
PLACES = [OpenApiParameter.PATH, OpenApiParameter.QUERY, OpenApiParameter.HEADER]
#: The key to what crosses applications; without it where none is configured.
ADMIN_KEY: Any = [{"adminKey": []}, {}]
SECURITY_SCHEMES = {
    "adminKey": {
        "type": "http",
        "scheme": "bearer",
        "description": "`ADMIN_API_KEY`, for what crosses applications. Where it is not set, nobody needs it.",
    }
}


class Generator(SchemaGenerator):
    def get_schema(self, request: Any = None, public: bool = False) -> dict[str, Any]:
        autodiscover_modules("schema")
        described: dict[str, Any] = super().get_schema(request, public)
        described["info"]["description"] = INTRODUCTION.read_text(encoding="utf-8")
        described["components"]["securitySchemes"] = SECURITY_SCHEMES
        described["components"]["schemas"] |= errors.SCHEMAS
        return described


def describe(view: Any, tag: str, wrong_batches: Sequence[Callable[[], object]] = (), **operations: Any) -> None:
    """Has the description say this of a view's operations, by their methods' names. The view itself stays as it is.

    `wrong_batches` raise what a wrong array is refused with, where arrays are taken.
    """
    # A function that api_view made a view of has its class in an attribute.
    target = getattr(view, "cls", view)
    described = type(target.__name__, (target,), {"wrong_batches": wrong_batches})
    extend_schema(tags=[tag])(extend_schema_view(**operations)(described))

    class Extension(OpenApiViewExtension):
        target_class = target

        def view_replacement(self) -> type[APIView]:
            return described


def once_and_in_order(endpoints: list[tuple]) -> list[tuple]:
    """Each route without its trailing slash, which links do not have: the same with one is no other operation.

    In the order of the URLs; methods come out of a set, and every process shall tell the same.
    """
    paths = list(dict.fromkeys(path for path, *_ in endpoints))
    ordered = sorted(endpoints, key=lambda endpoint: (paths.index(endpoint[0]), endpoint[2]))
    return [endpoint for endpoint in ordered if not endpoint[0].endswith("/")]


class AutoSchema(openapi.AutoSchema):
    """An operation with every status, header and code that it can be answered with."""

    def get_description(self) -> str:  # type: ignore[override]
        """None but what a schema.py says: a view's docstring is for the readers of its code."""
        return ""

    def get_override_parameters(self) -> list[Any]:
        return [*super().get_override_parameters(), REQUEST_ID]

    def _get_parameters(self) -> list[dict[str, Any]]:
        """What names the entity first, and last what most clients leave out."""
        found: list[dict[str, Any]] = super()._get_parameters()
        return sorted(found, key=lambda each: (PLACES.index(each["in"]), each["name"] == REQUEST_ID.name))

    def _get_request_body(self, direction: Any = "request") -> dict[str, Any] | None:
        body: dict[str, Any] | None = super()._get_request_body(direction)
        # One that is not there is an empty object, and each operation needs a field.
        return body and {**body, "required": True}

    def _get_response_bodies(self, direction: Any = "response") -> dict[str, Any]:
        answers = super()._get_response_bodies(direction)
        asked = {given.name for given in self.get_override_parameters() if isinstance(given, OpenApiParameter)}
        if IF_NONE_MATCH.name in asked:
            answers["304"] = {"description": "It has not changed since the answer that had this ETag."}
        for status, answer in answers.items():
            if headers := self._headers(status, asked):
                answer["headers"] = headers
        for code, refused in self._refusals(asked).items():
            answers.setdefault(str(code), self._shared(code, refused))
        return dict(sorted(answers.items()))

    def _headers(self, status: str, asked: set[str]) -> dict[str, Any]:
        headers = request_id(required=status != "503")
        if isinstance(self.view, EntityViewSet):
            headers |= CACHE_CONTROL
        if self._is_limited(asked) and status != "304":
            headers |= rate_limit(required=False)
        if IF_NONE_MATCH.name in asked and status < "400":
            headers |= ETAG
        if status == "201":
            headers |= CREATED
        if status == "503":
            headers |= errors.RETRY_AFTER
        return headers

    def _refusals(self, asked: set[str]) -> dict[int, errors.Answer]:
        crosses_applications = bool(self.get_auth())
        names_something = "{" in self.path
        without = {
            401: not crosses_applications,
            404: not names_something,
            406: self.view.get_content_negotiator().__class__ is not Negotiation,
            413: not self._takes_body,
            415: not self._takes_body,
            422: IDEMPOTENCY_KEY.name not in asked,
            429: not self._is_limited(asked),
        }
        shared = {status: answer for status, answer in errors.shared().items() if not without.get(status)}
        return {400: self._bad_request(asked), **shared}

    def _is_limited(self, asked: set[str]) -> bool:
        """Whether it is one application's, or may be."""
        return bool({TOKEN.name, "application"} & asked)

    def _bad_request(self, asked: set[str]) -> errors.Answer:
        name, reasons, wrong = "BadRequest", [], []
        if self._takes_body:
            reasons.append("a body that is not JSON, or not as described")
            wrong += errors.BODY + errors.of_bodies(self._wrong_bodies())
        if IDEMPOTENCY_KEY.name in asked:
            reasons.append("a key that is none")
            wrong += errors.IDEMPOTENCY_KEY
        if LIMIT.name in asked:
            reasons.append("a parameter that makes no sense, comes twice, or is one of more than 1000")
            wrong += errors.PARAMETERS
        if wrong:
            name = f"{self.get_operation_id().title().replace('_', '')}Invalid"
        text = "; ".join([*reasons, "a host that is not ours, or no HTTP"])
        return errors.Answer(
            name,
            f"{text[0].upper()}{text[1:]}. `attr` names what is wrong.",
            [*wrong, *errors.ANYWHERE, *errors.of_server(400)],
        )

    @property
    def _takes_body(self) -> bool:
        return self.method in ("POST", "PATCH")

    def _wrong_bodies(self) -> list[Callable[[], object]]:
        """Each way in which a body can be wrong."""
        view: Any = self.view
        (field,) = (field for field in view.serializer.fields.values() if not field.read_only)
        texts: list[object] = [None, "", 7, "x" * (field.max_length + 1), "\0", "\ud800"]
        bodies: list[object] = [{}, *({field.field_name: text} for text in texts), "text"]
        single = [lambda body=body: view.validated(SimpleNamespace(data=body)) for body in bodies]
        return [*single, *view.wrong_batches]

    def _shared(self, status: int, answer: errors.Answer) -> dict[str, Any]:
        response = ResolvedComponent(answer.name, ResolvedComponent.RESPONSE, answer.response(status), answer.name)
        self.registry.register_on_missing(response)
        ref: dict[str, Any] = response.ref
        return ref


class TextSchema(OpenApiSerializerFieldExtension):
    target_class = "chatsystem.api.fields.Text"

    def map_serializer_field(self, auto_schema: openapi.AutoSchema, direction: Any) -> dict[str, Any]:
        # JSON Schema counts code points, as the field does. There is no pattern for lone surrogates.
        return {"type": "string", "minLength": 1, "maxLength": self.target.max_length, "pattern": "^[^\\u0000]*$"}


class MomentSchema(OpenApiSerializerFieldExtension):
    target_class = "chatsystem.api.fields.Moment"

    def map_serializer_field(self, auto_schema: openapi.AutoSchema, direction: Any) -> dict[str, Any]:
        pattern = r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{6}Z$"
        return {"type": "string", "format": "date-time", "pattern": pattern, "readOnly": True}


class Page(serializers.Serializer):
    """What every list's answer begins with."""

    next = serializers.URLField(allow_null=True, help_text="The page that follows in the asked order.")
    previous = serializers.URLField(allow_null=True, help_text="The page before. A first page has none.")
