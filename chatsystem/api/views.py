"""What the viewsets share: translating between HTTP and the rooms, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rest_framework import status
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import BaseSerializer
from rest_framework.viewsets import ViewSet

from chatsystem.writelog.intake import Accepted


class EntityViewSet(ViewSet):
    """A viewset of one kind of entity, whose serializer validates what comes in and represents what goes out."""

    serializer_class: type[BaseSerializer]

    def validated(self, request: Request) -> Any:
        """The request's fields. Raises a 400 that names the wrong ones."""
        serializer = self.serializer_class(data=request.data, many=False)
        serializer.is_valid(raise_exception=True)
        return serializer.validated_data

    def represent(self, entities: Any, *, many: bool = False) -> Any:
        return self.serializer_class(entities, many=many).data

    def represent_all(self, entities: list[Any]) -> list[Any]:
        return self.represent(entities, many=True)

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
