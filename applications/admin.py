"""The admin pages of applications. Documented in docs/operations.md."""

from __future__ import annotations

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from applications.models import Application
from applications.serializers import ApplicationSerializer
from applications.services import update_application
from chatsystem.backoffice.big_table import Path, begins_with, shortened
from chatsystem.backoffice.entity_admin import EntityAdmin, recount
from chatsystem.writelog.append import Accepted


@admin.register(Application)
class ApplicationAdmin(EntityAdmin):
    text_field = "name"
    serializer_class = ApplicationSerializer
    list_display = ["short_name", "token", "chats_count", "created_at", "last_request_time"]
    fields = ["name", "token", "chats_count", "created_at", "last_request_time"]
    readonly_fields = ["token", "chats_count", "created_at", "last_request_time"]
    search_fields = ["token"]
    search_help_text = "A token, or the beginning of a name in its exact spelling."
    actions = [recount]

    @admin.display(description="name")
    def short_name(self, application: Application) -> str:
        return shortened(application.name)

    def search(self, request: HttpRequest, rows: QuerySet, term: str) -> QuerySet:
        path = Path.parse(term)
        return rows.filter(token=path.token) if path else begins_with(rows, "name", term)

    def path(self, obj: Application) -> str:
        return obj.token

    def update(self, obj: Application, text: str) -> Accepted:
        return update_application(obj.token, text)
