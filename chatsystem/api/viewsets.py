"""The base of all viewsets, which translate between HTTP and the packages."""

from __future__ import annotations

from operator import attrgetter
from typing import Any, ClassVar, TypeVar

from django.http import HttpResponse
from rest_framework import status
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import Serializer
from rest_framework.viewsets import ViewSet

from chatsystem.api.errors import PreconditionFailed
from chatsystem.api.middleware import STREAM_POSITION
from chatsystem.api.query_params import own_url
from chatsystem.writelog.append import Accepted
from chatsystem.writelog.positions import Position

R = TypeVar("R", bound=HttpResponse)

#: Actions that change data.
WRITES = frozenset({"create", "partial_update"})


class EntityViewSet(ViewSet):
    """A viewset for one kind of entity. Its serializer validates requests and represents entities.

    /openapi.json has the docstrings of its actions: the first line as the summary, the rest as the description.
    """

    serializer_class: type[Serializer]
    #: One instance for all requests, since the methods used here keep no state (docs/decisions.md).
    serializer: ClassVar[Serializer]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.serializer = cls.serializer_class()

    def dispatch(self, request: Any, *args: Any, **kwargs: Any) -> Any:
        """Breaks the reference cycles between view, request and response that DRF leaves behind.

        A cycle keeps the request's body and the response alive until the garbage collector runs (docs/decisions.md).
        """
        response = super().dispatch(request, *args, **kwargs)
        if isinstance(response, Response):
            response.render()
            vars(response)["renderer_context"].clear()
        self.request.parser_context.clear()
        vars(self).clear()
        return response

    def validated(self, request: Request) -> Any:
        """Returns the request's fields. Raises a 400 that names the invalid ones.

        `is_valid` would keep state in the shared serializer.
        """
        return self.serializer.to_internal_value(request.data)

    def represent(self, entity: Any) -> Any:
        return self.serializer.to_representation(entity)

    def represent_all(self, entities: list[Any]) -> list[Any]:
        """Represents the entities field by field. DRF goes entity by entity, which is slower (docs/decisions.md)."""
        fields = self.serializer.fields
        columns = [map(field.to_representation, map(attrgetter(name), entities)) for name, field in fields.items()]
        return [dict(zip(fields, row, strict=True)) for row in zip(*columns, strict=True)]

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """Rejects a conditional write: another write could come between the comparison and the write."""
        super().initial(request, *args, **kwargs)
        if self.action in WRITES and (
            request.META.get("HTTP_IF_MATCH", "*").strip() != "*" or "HTTP_IF_NONE_MATCH" in request.META
        ):
            raise PreconditionFailed

    def perform_authentication(self, request: Request) -> None:
        """Does nothing: there are no users. A token is part of the path, and `require_admin_key` checks the rest."""

    def finalize_response(self, request: Any, response: Any, *args: Any, **kwargs: Any) -> Any:
        # Caches must revalidate by ETag. Otherwise they could return a response older than an acknowledged write.
        response.headers.setdefault("Cache-Control", "no-cache")
        return super().finalize_response(request, response, *args, **kwargs)


def positioned(response: R, position: Position) -> R:
    """Says from where a stream shows every change that a list may not show yet."""
    response.headers[STREAM_POSITION] = str(position)
    return response


def created(request: Request, data: Any, accepted: Accepted) -> Response:
    """Returns 201 for an acknowledged create. A batch, whose `data` is a list, has no Location, nor has a ticket."""
    headers = {}
    if accepted.name and not isinstance(data, list):
        headers["Location"] = f"{own_url(request).removesuffix('/')}/{accepted.name}"
    if accepted.replayed:
        headers["Idempotent-Replayed"] = "true"
    return Response(data, status=status.HTTP_201_CREATED, headers=headers)
