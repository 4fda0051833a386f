"""Generates OpenAPI 3.1 from the code, and adds what drf-spectacular cannot see. Documented in docs/api.md.

The `openapi.py` of each package describes its routes with `describe` and `describe_entities`.
docs/decisions.md says why drf-standardized-errors' AutoSchema is not used.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from django.utils.module_loading import autodiscover_modules
from drf_spectacular import openapi
from drf_spectacular.extensions import OpenApiSerializerFieldExtension
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.plumbing import ResolvedComponent
from drf_spectacular.utils import (
    OpenApiExample,
    OpenApiParameter,
    OpenApiResponse,
    extend_schema,
    extend_schema_serializer,
    extend_schema_view,
)
from rest_framework import serializers

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
from chatsystem.api.viewsets import EntityViewSet

INTRODUCTION = Path(__file__).parent / "introduction.md"
LOCATIONS = [OpenApiParameter.PATH, OpenApiParameter.QUERY, OpenApiParameter.HEADER]
#: For routes that span applications. The empty alternative is for a server without a key.
ADMIN_KEY: Any = [{"adminKey": []}, {}]
SECURITY_SCHEMES = {
    "adminKey": {
        "type": "http",
        "scheme": "bearer",
        "description": "`ADMIN_API_KEY`, for routes that span applications. Not needed where it is not set.",
    }
}

_invalid_batches: dict[type, Sequence[Callable[[], object]]] = {}


class Generator(SchemaGenerator):
    def get_schema(self, request: Any = None, public: bool = False) -> dict[str, Any]:
        autodiscover_modules("openapi")
        described: dict[str, Any] = super().get_schema(request, public)
        described["info"]["description"] = INTRODUCTION.read_text(encoding="utf-8")
        described["components"]["securitySchemes"] = SECURITY_SCHEMES
        described["components"]["schemas"] |= errors.SCHEMAS
        return described


class Page(serializers.Serializer):
    """The fields that every list begins with."""

    next = serializers.URLField(allow_null=True, help_text="The next page in the requested order.")
    previous = serializers.URLField(allow_null=True, help_text="The previous page. A first page has none.")


def page_of(serializer: type[serializers.Serializer], **fields: serializers.Field) -> type[Page]:
    """Returns the serializer of a page of these. `fields` come before the results."""
    name = serializer.__name__.replace("Serializer", "Page")
    members = {**fields, "results": serializer(many=True), "__doc__": "A page, with links to its neighbours."}
    return extend_schema_serializer(many=False)(type(name, (Page,), members))


def describe(view: Any, tag: str, **operations: Any) -> None:
    """Describes a view's operations, by the names of their methods."""
    # A function that api_view wrapped has its class in an attribute.
    extend_schema(tags=[tag])(extend_schema_view(**operations)(getattr(view, "cls", view)))


def describe_entities(
    viewset: type[EntityViewSet],
    example: dict[str, Any],
    changed: dict[str, Any],
    link: str,
    parents: Sequence[OpenApiParameter],
    parameters: Sequence[OpenApiParameter],
    paging: Sequence[OpenApiParameter],
    invalid_batches: Sequence[Callable[[], object]] = (),
    **operations: dict[str, Any],
) -> None:
    """Describes the four operations of one kind of entity.

    `example` is a stored entity, `changed` is what a PATCH changes in it, and `link` is the `next` of a list.
    `parents` are the parameters of the collection's path, `parameters` those of the entity's. `invalid_batches` are
    attempts to validate an invalid array, where arrays are accepted. `operations` adds to an operation, or replaces
    what is said here.
    """
    _invalid_batches[viewset] = invalid_batches
    serializer = viewset.serializer_class
    plural = serializer.__name__.replace("Serializer", "s").lower()
    one = plural[:-1]
    ((field, text),) = {name: changed[name] for name in changed if name != "last_request_time"}.items()
    created = {name: 0 if name.endswith("_count") else value for name, value in example.items()}
    page = {"next": link, "previous": None, "results": [example]}

    def operation(action: str, **said: Any) -> Any:
        return extend_schema(**{"description": "", **said, **operations.get(action, {})})

    def answer(status: int, value: Any, text: str, of: Any = serializer) -> dict[int, OpenApiResponse]:
        return {status: OpenApiResponse(of, text, [OpenApiExample("An example", value)])}

    def body(value: str) -> dict[str, Any]:
        return {"request": serializer, "examples": [OpenApiExample("An example", {field: value}, request_only=True)]}

    describe(
        viewset,
        plural.title(),
        list=operation(
            "list",
            operation_id=f"list_{plural}",
            parameters=[*parents, *paging, IF_NONE_MATCH],
            responses=answer(200, page, f"A page of {plural}.", page_of(serializer)),
        ),
        create=operation(
            "create",
            operation_id=f"create_{one}",
            parameters=[*parents, IDEMPOTENCY_KEY],
            responses=answer(201, created, f"The new {one}."),
            **body(example[field]),
        ),
        retrieve=operation(
            "retrieve",
            operation_id=f"get_{one}",
            summary=f"Get {'an' if one[0] in 'aeiou' else 'a'} {one}",
            parameters=[*parameters, IF_NONE_MATCH],
            responses=answer(200, example, f"The {one}."),
        ),
        partial_update=operation(
            "partial_update",
            operation_id=f"update_{one}",
            description=f"Moves `last_request_time`, even if the {field} stays the same.",
            parameters=parameters,
            responses=answer(200, {**example, **changed}, f"The changed {one}."),
            **body(text),
        ),
    )


def without_trailing_slashes(endpoints: list[tuple]) -> list[tuple]:
    """Drops the routes with a trailing slash, which duplicate the others, and orders the rest.

    The order is that of the URLs, then of the methods. DRF collects methods in a set, so every process would have its
    own order.
    """
    paths = list(dict.fromkeys(path for path, *_ in endpoints))
    ordered = sorted(endpoints, key=lambda endpoint: (paths.index(endpoint[0]), endpoint[2]))
    return [endpoint for endpoint in ordered if not endpoint[0].endswith("/")]


class AutoSchema(openapi.AutoSchema):
    """Describes an operation with every status, header and error code that it can have."""

    def get_description(self) -> str:  # type: ignore[override]
        """Returns nothing: a view's docstring is for readers of the code. `openapi.py` has the description."""
        return ""

    def get_override_parameters(self) -> list[Any]:
        return [*super().get_override_parameters(), REQUEST_ID]

    def _get_parameters(self) -> list[dict[str, Any]]:
        """Orders parameters by location, with X-Request-ID last."""
        found: list[dict[str, Any]] = super()._get_parameters()
        return sorted(found, key=lambda each: (LOCATIONS.index(each["in"]), each["name"] == REQUEST_ID.name))

    def _get_request_body(self, direction: Any = "request") -> dict[str, Any] | None:
        body: dict[str, Any] | None = super()._get_request_body(direction)
        # A missing body counts as an empty object, and each operation needs a field.
        return body and {**body, "required": True}

    def _get_response_bodies(self, direction: Any = "response") -> dict[str, Any]:
        answers = super()._get_response_bodies(direction)
        names = {given.name for given in self.get_override_parameters() if isinstance(given, OpenApiParameter)}
        if IF_NONE_MATCH.name in names:
            answers["304"] = {"description": "Nothing has changed since the response with this ETag."}
        for status, answer in answers.items():
            if headers := self._headers(status, names):
                answer["headers"] = headers
        for code, error in self._errors(names).items():
            answers.setdefault(str(code), self._component(code, error))
        return dict(sorted(answers.items()))

    def _headers(self, status: str, names: set[str]) -> dict[str, Any]:
        headers = request_id(required=status != "503")
        if isinstance(self.view, EntityViewSet):
            headers |= CACHE_CONTROL
        if _is_limited(names) and status != "304":
            headers |= rate_limit(required=False)
        if IF_NONE_MATCH.name in names and status < "400":
            headers |= ETAG
        if status == "201":
            headers |= CREATED
        if status == "503":
            headers |= errors.RETRY_AFTER
        return headers

    def _errors(self, names: set[str]) -> dict[int, errors.Answer]:
        has_body = self.method in ("POST", "PATCH")
        applies = {
            401: bool(self.get_auth()),
            404: "{" in self.path,
            406: isinstance(self.view.get_content_negotiator(), Negotiation),
            413: has_body,
            415: has_body,
            422: IDEMPOTENCY_KEY.name in names,
            429: _is_limited(names),
        }
        shared = {status: answer for status, answer in errors.shared().items() if applies.get(status, True)}
        return {400: self._bad_request(names, has_body), **shared}

    def _bad_request(self, names: set[str], has_body: bool) -> errors.Answer:
        name, reasons, entries = "BadRequest", [], []
        if has_body:
            reasons.append("a body that is not JSON, or not as described")
            entries += errors.BODY + errors.of_bodies(self._invalid_bodies())
        if IDEMPOTENCY_KEY.name in names:
            reasons.append("an invalid key")
            entries += errors.IDEMPOTENCY_KEY
        if LIMIT.name in names:
            reasons.append("an invalid or repeated parameter, or more than 1000 of them")
            entries += errors.PARAMETERS
        if entries:
            name = f"{self.get_operation_id().title().replace('_', '')}Invalid"
        text = "; ".join([*reasons, "an unknown host, or malformed HTTP"])
        return errors.Answer(
            name,
            f"{text[0].upper()}{text[1:]}. `attr` names what is invalid.",
            [*entries, *errors.ANYWHERE, *errors.of_server(400)],
        )

    def _invalid_bodies(self) -> list[Callable[[], object]]:
        """Returns an attempt to validate each kind of invalid body."""
        view: Any = self.view
        (field,) = (field for field in view.serializer_class().fields.values() if not field.read_only)
        texts: list[object] = [None, "", 7, "x" * (field.max_length + 1), "\0", "\ud800"]
        bodies: list[object] = [{}, *({field.field_name: text} for text in texts), "text"]
        single = [lambda body=body: view.validated(SimpleNamespace(data=body)) for body in bodies]
        return [*single, *_invalid_batches.get(type(view), ())]

    def _component(self, status: int, answer: errors.Answer) -> dict[str, Any]:
        response = ResolvedComponent(answer.name, ResolvedComponent.RESPONSE, answer.response(status), answer.name)
        self.registry.register_on_missing(response)
        ref: dict[str, Any] = response.ref
        return ref


def _is_limited(names: set[str]) -> bool:
    """Tells whether the route belongs to one application, or may, and so has a rate limit."""
    return bool({TOKEN.name, "application"} & names)


class TextSchema(OpenApiSerializerFieldExtension):
    target_class = "chatsystem.api.fields.Text"

    def map_serializer_field(self, auto_schema: openapi.AutoSchema, direction: Any) -> dict[str, Any]:
        # JSON Schema counts code points, as the field does. No pattern matches lone surrogates.
        return {"type": "string", "minLength": 1, "maxLength": self.target.max_length, "pattern": "^[^\\u0000]*$"}


class MomentSchema(OpenApiSerializerFieldExtension):
    target_class = "chatsystem.api.fields.Moment"

    def map_serializer_field(self, auto_schema: openapi.AutoSchema, direction: Any) -> dict[str, Any]:
        pattern = r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{6}Z$"
        return {"type": "string", "format": "date-time", "pattern": pattern, "readOnly": True}
