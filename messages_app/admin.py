"""The admin pages of messages. Documented in docs/operations.md."""

from __future__ import annotations

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest

from chats.models import Chat
from chatsystem.backoffice.big_table import LISTED, Path, shortened
from chatsystem.backoffice.entity_admin import EntityAdmin
from chatsystem.search_interface import search
from chatsystem.writelog.append import Accepted
from messages_app.models import Message
from messages_app.serializers import MessageSerializer
from messages_app.services import update_message


@admin.register(Message)
class MessageAdmin(EntityAdmin):
    text_field = "body"
    serializer_class = MessageSerializer
    text_rows = 20
    list_display = ["short_body", "number", "chat_title", "application_name", "created_at", "last_request_time"]
    fields = ["body", "token", "chat_number", "number", "created_at", "last_request_time"]
    readonly_fields = ["token", "chat_number", "number", "created_at", "last_request_time"]
    search_fields = ["body"]
    search_help_text = "token, token/chat, token/chat/message, or words of the body (the 500 best matches)."

    def get_queryset(self, request: HttpRequest) -> QuerySet:
        # Not a join: a database that starts from the smaller table would sort all messages for one page.
        return super().get_queryset(request).prefetch_related("chat__application")

    @admin.display(description="body")
    def short_body(self, message: Message) -> str:
        return shortened(message.body)

    @admin.display(description="chat")
    def chat_title(self, message: Message) -> str:
        return shortened(message.chat.title)

    @admin.display(description="application")
    def application_name(self, message: Message) -> str:
        return shortened(message.chat.application.name)

    @admin.display(description="application's token")
    def token(self, message: Message) -> str:
        return message.chat.application.token

    @admin.display(description="chat")
    def chat_number(self, message: Message) -> str:
        return f"{message.chat.number}: {shortened(message.chat.title)}"

    def search(self, request: HttpRequest, rows: QuerySet, term: str) -> QuerySet:
        path = Path.parse(term)
        if path is None:
            return self._with_words(request, rows, term)
        chats = Chat.objects.filter(application__token=path.token)
        if path.chat is None:
            newest, all_of_them = _newest(chats)
            if not all_of_them:
                self.message_user(
                    request,
                    "Only messages of the application's newest chats are listed. Search for token/chat to see others.",
                    messages.INFO,
                )
            return rows.filter(chat__in=newest).order_by("-chat_id", "-number")
        chat = chats.filter(number=path.chat).first()
        rows = rows.filter(chat=chat).order_by("-number") if chat else rows.none()
        return rows if path.message is None else rows.filter(number=path.message)

    def _with_words(self, request: HttpRequest, rows: QuerySet, words: str) -> QuerySet:
        ids = search().best_matches(words)
        if ids is None:
            self.message_user(request, "Search cannot answer now. Try again, or search by token.", messages.ERROR)
            return rows.none()
        return rows.filter(pk__in=ids)

    def path(self, obj: Message) -> str:
        return f"{obj.chat.application.token}/{obj.chat.number}/{obj.number}"

    def update(self, obj: Message, text: str) -> Accepted:
        return update_message(obj.chat.application.token, obj.chat.number, obj.number, text)


def _newest(chats: QuerySet[Chat]) -> tuple[list[int], bool]:
    """Returns the newest chats whose messages fill a list, and whether these are all chats with messages."""
    ids: list[int] = []
    filled = 0
    for pk, count in chats.order_by("-number").values_list("pk", "messages_count").iterator():
        if filled > LISTED:
            return ids, False
        if count:
            ids.append(pk)
            filled += count
    return ids, True
