from __future__ import annotations

from rest_framework.request import Request
from rest_framework.response import Response

from chats.selectors import ChatRow, get_chat, list_chats
from chats.serializers import ChatSerializer
from chats.services import create_chat, update_chat
from chatsystem.api.idempotency import proxy_key, request_key
from chatsystem.api.pagination import NumberPage
from chatsystem.api.viewsets import EntityViewSet, created, positioned
from chatsystem.writelog.events import to_datetime


class ChatViewSet(EntityViewSet):
    serializer_class = ChatSerializer

    def list(self, request: Request, token: str) -> Response:
        """Lists an application's chats by number.

        Following `next` or `previous` returns each chat once, even while chats arrive.
        """
        page = NumberPage.of(request)
        chats = list_chats(token, page.window())
        return positioned(Response(page.answer(chats.run(), self.represent_all)), chats.position)

    def create(self, request: Request, token: str) -> Response:
        """Creates a chat.

        It gets the next number of its application.
        """
        title = self.validated(request)["title"]
        accepted = create_chat(token, title, request_key(request))
        moment = to_datetime(accepted.arrival)
        chat = ChatRow(accepted.number, moment, moment, title)
        return created(request, self.represent(chat), accepted)

    def retrieve(self, request: Request, token: str, number: int) -> Response:
        """Returns a chat."""
        return Response(self.represent(get_chat(token, number)))

    def partial_update(self, request: Request, token: str, number: int) -> Response:
        """Renames a chat.

        Moves `last_request_time`, even if the title stays the same.
        """
        chat = get_chat(token, number)
        chat.title = self.validated(request)["title"]
        chat.last_request_time = to_datetime(update_chat(token, number, chat.title, proxy_key(request)).arrival)
        return Response(self.represent(chat))
