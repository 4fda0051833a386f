"""The admin pages of chats. Documented in docs/operations.md."""

from __future__ import annotations

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from applications.models import Application
from chats.models import Chat
from chats.serializers import ChatSerializer
from chats.services import update_chat
from chatsystem.backoffice.big_table import Path, begins_with, shortened
from chatsystem.backoffice.entity_admin import EntityAdmin, recount
from chatsystem.writelog.append import Accepted


@admin.register(Chat)
class ChatAdmin(EntityAdmin):
    text_field = "title"
    serializer_class = ChatSerializer
    list_display = ["short_title", "number", "application_name", "messages_count", "created_at", "last_request_time"]
    fields = ["title", "token", "number", "messages_count", "created_at", "last_request_time"]
    readonly_fields = ["token", "number", "messages_count", "created_at", "last_request_time"]
    search_fields = ["title"]
    search_help_text = "token, token/number, or the beginning of a title in its exact spelling."
    actions = [recount]

    def get_queryset(self, request: HttpRequest) -> QuerySet:
        # Not a join: a database that starts from the smaller table would sort all chats for one page.
        return super().get_queryset(request).prefetch_related("application")

    @admin.display(description="title")
    def short_title(self, chat: Chat) -> str:
        return shortened(chat.title)

    @admin.display(description="application")
    def application_name(self, chat: Chat) -> str:
        return shortened(chat.application.name)

    @admin.display(description="application's token")
    def token(self, chat: Chat) -> str:
        return chat.application.token

    def search(self, request: HttpRequest, rows: QuerySet, term: str) -> QuerySet:
        path = Path.parse(term)
        if path is None:
            return begins_with(rows, "title", term)
        application = Application.objects.filter(token=path.token).first()
        rows = rows.filter(application=application).order_by("-number") if application else rows.none()
        return rows if path.chat is None else rows.filter(number=path.chat)

    def path(self, obj: Chat) -> str:
        return f"{obj.application.token}/{obj.number}"

    def update(self, obj: Chat, text: str) -> Accepted:
        return update_chat(obj.application.token, obj.number, text)
