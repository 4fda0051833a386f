from __future__ import annotations

from contextlib import suppress
from datetime import timedelta
from typing import Any

from django.http import HttpResponse
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import ListSerializer

from chatsystem.api.idempotency import proxy_key, request_key
from chatsystem.api.pagination import NumberPage
from chatsystem.api.response_cache import cached_response
from chatsystem.api.viewsets import EntityViewSet, created, positioned
from chatsystem.writelog.append import Accepted
from chatsystem.writelog.events import to_datetime
from messages_app.selectors import MessageRow, get_message, list_messages
from messages_app.serializers import MAX_BATCH, MessageSerializer
from messages_app.services import create_batch, create_message, update_message


class MessageViewSet(EntityViewSet):
    serializer_class = MessageSerializer

    def list(self, request: Request, token: str, chat_number: int) -> HttpResponse:
        """Lists a chat's messages by number.

        Following `next` or `previous` returns each message once, even while messages arrive.
        """
        page = NumberPage.of(request)
        messages = list_messages(token, chat_number, page.window())
        response = cached_response(request, messages.version, lambda: page.answer(messages.run(), self.represent_all))
        return positioned(response, messages.position)

    def create(self, request: Request, token: str, chat_number: int) -> Response:
        """Creates a message, or a batch.

        A batch is an array of 1 to 1000 messages. They get consecutive numbers, and the response is an array in the
        same order, without `Location`. If one of them is invalid, none is accepted. `attr` begins with the index of the
        invalid element, from 0 (`3.body`).
        """
        key = request_key(request)
        if isinstance(request.data, list):
            bodies = validated_bodies(request.data)
            accepted = create_batch(token, chat_number, bodies, key)
            return created(request, self.represent_all(_acknowledged(accepted, bodies)), accepted)
        body = self.validated(request)["body"]
        accepted = create_message(token, chat_number, body, key)
        return created(request, self.represent(_acknowledged(accepted, [body])[0]), accepted)

    def retrieve(self, request: Request, token: str, chat_number: int, number: int) -> Response:
        """Returns a message."""
        return Response(self.represent(get_message(token, chat_number, number)))

    def partial_update(self, request: Request, token: str, chat_number: int, number: int) -> Response:
        """Changes a message's body.

        Moves `last_request_time`, even if the body stays the same.
        """
        message = get_message(token, chat_number, number)
        message.body = self.validated(request)["body"]
        accepted = update_message(token, chat_number, number, message.body, proxy_key(request))
        message.last_request_time = to_datetime(accepted.arrival)
        return Response(self.represent(message))


def validated_bodies(data: list[Any]) -> list[str]:
    """Returns the bodies of a batch. Raises a 400 that names the index of each invalid element."""
    if 0 < len(data) <= MAX_BATCH:
        # A ListSerializer takes twice as long. It names what is invalid, below.
        with suppress(ValidationError):
            return [MessageViewSet.serializer.to_internal_value(element)["body"] for element in data]
    child = MessageSerializer()
    batch: ListSerializer = ListSerializer(child=child, data=data, allow_empty=False, max_length=MAX_BATCH)
    if not batch.is_valid():
        # As strings: drf-standardized-errors treats the index 0 as absent.
        errors: Any = batch.errors
        raise ValidationError({str(index): of_element for index, of_element in errors.items()})
    return [message["body"] for message in batch.validated_data]


def _acknowledged(accepted: Accepted, bodies: list[str]) -> list[MessageRow]:
    """Returns the acknowledged messages. Numbers and arrival times each increase by one."""
    first = to_datetime(accepted.arrival)
    moments = [first + timedelta(microseconds=i) for i in range(len(bodies))]
    return [MessageRow(accepted.number + i, moments[i], moments[i], body) for i, body in enumerate(bodies)]
