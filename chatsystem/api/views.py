"""What the viewsets share: translating between HTTP and the rooms, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from operator import attrgetter
from typing import Any, ClassVar

from rest_framework import status
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import Serializer
from rest_framework.viewsets import ViewSet

from chatsystem.writelog.intake import Accepted


class EntityViewSet(ViewSet):
    """A viewset of one kind of entity, whose serializer validates what comes in and represents what goes out."""

    serializer_class: type[Serializer]
    #: One for all requests: what is asked of it here keeps nothing. Each new one would copy all fields, which took more
    #: than a sixth of a request's time.
    serializer: ClassVar[Serializer]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.serializer = cls.serializer_class()

    def dispatch(self, request: Any, *args: Any, **kwargs: Any) -> Any:
        """Ends with a view, a request and a response that do not hold each other, as DRF leaves them.

        Each such ring waits for the garbage collector, with the request's body and the answer in it.
        """
        response = super().dispatch(request, *args, **kwargs)
        if isinstance(response, Response):
            response.render()
            vars(response)["renderer_context"].clear()
        self.request.parser_context.clear()
        vars(self).clear()
        return response

    def validated(self, request: Request) -> Any:
        """The request's fields. Raises a 400 that names the wrong ones."""
        return self.serializer.to_internal_value(request.data)

    def represent(self, entity: Any) -> Any:
        return self.serializer.to_representation(entity)

    def represent_all(self, entities: list[Any]) -> list[Any]:
        """Field by field, and so in half of the time: DRF looks everything up anew for each entity."""
        fields = self.serializer.fields
        columns = [map(field.to_representation, map(attrgetter(name), entities)) for name, field in fields.items()]
        return [dict(zip(fields, row, strict=True)) for row in zip(*columns, strict=True)]

    def perform_authentication(self, request: Request) -> None:
        """The API knows no users: who has a token has its application."""

    def finalize_response(self, request: Any, response: Any, *args: Any, **kwargs: Any) -> Any:
        # Kept copies must be revalidated (by ETag): an answer nobody asked for again could be older than a write.
        response.headers.setdefault("Cache-Control", "no-cache")
        return super().finalize_response(request, response, *args, **kwargs)


def created(data: Any, accepted: Accepted, location: str | None = None) -> Response:
    """201 for an acknowledged create, saying when it repeats an earlier answer."""
    headers: Mapping[str, str] = {
        **({"Location": location} if location else {}),
        **({"Idempotent-Replayed": "true"} if accepted.replayed else {}),
    }
    return Response(data, status=status.HTTP_201_CREATED, headers=dict(headers))
