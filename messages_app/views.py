from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.http import HttpResponse
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import ListSerializer

from chatsystem.api.idempotency import proxy_key, request_key
from chatsystem.api.kept import kept
from chatsystem.api.links import child
from chatsystem.api.pagination import NumberPage
from chatsystem.api.views import EntityViewSet, created
from chatsystem.writelog.arrival import to_datetime
from chatsystem.writelog.intake import Accepted
from messages_app.intake import create_batch, create_message, update_message
from messages_app.selectors import MessageRow, get_message, list_messages
from messages_app.serializers import MAX_BATCH, MessageSerializer


class MessageViewSet(EntityViewSet):
    serializer_class = MessageSerializer

    def list(self, request: Request, token: str, chat_number: int) -> HttpResponse:
        page = NumberPage.of(request)
        messages = list_messages(token, chat_number, page.window())
        return kept(request, messages.version, lambda: page.answer(messages.run(), self.represent_all))

    def create(self, request: Request, token: str, chat_number: int) -> Response:
        """One message, or an array of them: the array gets one run of numbers, all or nothing."""
        key = request_key(request)
        if isinstance(request.data, list):
            bodies = validated_bodies(request.data)
            accepted = create_batch(token, chat_number, bodies, key)
            return created(self.represent_all(_acknowledged(accepted, bodies)), accepted)
        body = self.validated(request)["body"]
        accepted = create_message(token, chat_number, body, key)
        return created(self.represent(_acknowledged(accepted, [body])[0]), accepted, child(request, accepted.name))

    def retrieve(self, request: Request, token: str, chat_number: int, number: int) -> Response:
        return Response(self.represent(get_message(token, chat_number, number)))

    def partial_update(self, request: Request, token: str, chat_number: int, number: int) -> Response:
        message = get_message(token, chat_number, number)
        message.body = self.validated(request)["body"]
        accepted = update_message(token, chat_number, number, message.body, proxy_key(request))
        message.last_request_time = to_datetime(accepted.arrival)
        return Response(self.represent(message))


def validated_bodies(data: list[Any]) -> list[str]:
    """Raises a 400 that names the index of each wrong element."""
    child = MessageSerializer()
    batch: ListSerializer = ListSerializer(child=child, data=data, allow_empty=False, max_length=MAX_BATCH)
    if not batch.is_valid():
        # As text: the error shape takes the index 0 for no index at all.
        errors: Any = batch.errors
        raise ValidationError({str(index): of_element for index, of_element in errors.items()})
    return [message["body"] for message in batch.validated_data]


def _acknowledged(accepted: Accepted, bodies: list[str]) -> list[MessageRow]:
    """The run of messages: numbers and arrivals go up one by one."""
    first = to_datetime(accepted.arrival)
    moments = [first + timedelta(microseconds=i) for i in range(len(bodies))]
    return [MessageRow(accepted.number + i, moments[i], moments[i], body) for i, body in enumerate(bodies)]
