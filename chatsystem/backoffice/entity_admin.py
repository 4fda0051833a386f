"""The admin page of an entity. An edit takes the path of an API update, through the log. See docs/operations.md."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.db.models import Field, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from rest_framework.serializers import Serializer

from chatsystem.backoffice.big_table import DATABASE_AWAY, BigTableAdmin, CreatedFilter, bounded, noun
from chatsystem.backoffice.text_field import EntityForm, ExactText
from chatsystem.writelog import reads
from chatsystem.writelog.append import Accepted
from chatsystem.writelog.counts import all_counts
from chatsystem.writelog.drain import drain
from chatsystem.writelog.exceptions import LogFull, LogUnavailable, UnknownEntity
from chatsystem.writelog.keys import partition_of
from chatsystem.writelog.models import DeadEvent, Partition
from chatsystem.writelog.reads import overlay

#: Seconds that the page waits for a change to be stored before it leaves that to the workers.
PATIENCE = 5.0


class EntityAdmin(BigTableAdmin):
    """An application, chat or message. Its text can be edited; the write goes through the package's services."""

    form = EntityForm
    text_field: str
    serializer_class: type[Serializer]
    text_rows = 2
    list_filter = [CreatedFilter]

    def path(self, obj: Any) -> str:
        """Returns the entity's path in the log."""
        raise NotImplementedError

    def update(self, obj: Any, text: str) -> Accepted:
        """Passes the new text to the package's services."""
        raise NotImplementedError

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Any:
        """Returns the entity as acknowledged, with a change that still waits in the log."""
        row = super().get_object(request, object_id, from_field)
        if row is None:
            return None
        path = self.path(row)
        try:
            pending = reads.pending(path.partition("/")[0], path)
        except LogUnavailable:
            if request.method == "GET":
                self.message_user(
                    request,
                    "The state Redis is down. Nothing can be saved now, and a newer change may be waiting.",
                    messages.WARNING,
                )
            return row
        # Read again: a change that was drained after the first read is no longer pending.
        row = super().get_object(request, object_id, from_field)
        return overlay(row, pending, self.text_field, lambda created: self.model(created_at=created))

    def formfield_for_dbfield(self, db_field: Field, request: Any, **kwargs: Any) -> Any:
        if db_field.name == self.text_field:
            return ExactText(rows=self.text_rows)
        return super().formfield_for_dbfield(db_field, request, **kwargs)

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        form: Any = super().get_form(request, obj, change, **kwargs)
        form.text_field = self.text_field
        form.serializer_class = self.serializer_class
        form.refusal = getattr(request, "refusal", None)
        return form

    def changeform_view(
        self, request: Any, object_id: str | None = None, form_url: str = "", extra_context: dict | None = None
    ) -> HttpResponse:
        """Runs without Django's transaction: the drain must commit before an event leaves the log."""
        try:
            return self._changeform_view(request, object_id, form_url, extra_context)  # type: ignore[attr-defined]
        except (LogUnavailable, UnknownEntity) as error:
            request.refusal = _refusal(error)
            return self._changeform_view(request, object_id, form_url, extra_context)  # type: ignore[attr-defined]

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        if not form.has_changed():
            self.message_user(request, "Nothing was changed, so nothing was written.", messages.INFO)
            return
        accepted = self.update(obj, form.cleaned_data[self.text_field])
        self.message_user(request, *_outcome(partition_of(self.path(obj).partition("/")[0]), accepted.arrival))

    def log_change(self, request: HttpRequest, obj: Any, message: Any) -> Any:
        return super().log_change(request, obj, message) if message else None

    def response_change(self, request: HttpRequest, obj: Any) -> HttpResponse:
        # save_model has already shown the outcome.
        if "_continue" in request.POST:
            return HttpResponseRedirect(request.get_full_path())
        return self.response_post_save_change(request, obj)


def _refusal(error: Exception) -> str:
    if isinstance(error, LogFull):
        return "Nothing was saved: too many writes of this application wait to be stored. Try again in a moment."
    if isinstance(error, LogUnavailable):
        return "Nothing was saved: the state Redis is down. Save again when /health/ready shows that it is back."
    return "Nothing was saved: this is no longer in the database or the log."


def _outcome(partition: int, arrival: int) -> tuple[str, int]:
    """Drains, so that the list shows the change at once, and returns the outcome as a message and its level."""
    try:
        drain([partition], PATIENCE)
        if DeadEvent.objects.filter(partition=partition, arrival=arrival).exists():
            return "The database refused the change. The reason is on the dead event.", messages.ERROR
        if Partition.objects.filter(pk=partition, drained_through__gte=arrival).exists():
            return "The change is stored.", messages.SUCCESS
    except (LogUnavailable, *DATABASE_AWAY):
        pass
    return "The change is accepted. The workers will store it.", messages.WARNING


@admin.action(description="Recount the selected %(verbose_name_plural)s", permissions=["change"])
def recount(model_admin: admin.ModelAdmin, request: HttpRequest, queryset: QuerySet) -> None:
    """Recounts the children under the partitions' locks, and repairs wrong counts."""
    [count] = [count for count in all_counts() if count.parent is model_admin.model]
    parents, rest = bounded(queryset.values_list("pk", count.token))
    try:
        drifts = count.repair_all(parents)
    except DATABASE_AWAY:
        model_admin.message_user(
            request, "The database is busy. Some of them may not have been recounted. Try again.", messages.ERROR
        )
        return
    many = f"{len(parents):,} {noun(model_admin.model, len(parents))}"
    if not drifts:
        model_admin.message_user(request, f"Recounted {many}: no drift.{rest}", messages.SUCCESS)
        return
    told = "; ".join(f"id {drift.parent_id} had {drift.stored}, has {drift.actual}" for drift in drifts[:10])
    told += "; …" if len(drifts) > 10 else ""
    model_admin.message_user(
        request, f"Recounted {many}: {len(drifts):,} drifted and repaired ({told}).{rest}", messages.WARNING
    )
