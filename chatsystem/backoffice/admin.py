"""The admin pages of the write log: dead events, discarded events and partitions. Documented in docs/operations.md."""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.views.main import ChangeList
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse

from chatsystem.backoffice.big_table import DATABASE_AWAY, BigTableAdmin, Path, bounded, noun, shortened
from chatsystem.writelog import dead_events, stream
from chatsystem.writelog.events import to_datetime
from chatsystem.writelog.exceptions import LogUnavailable
from chatsystem.writelog.keys import partition_of
from chatsystem.writelog.models import AcknowledgedEvent, DeadEvent, DiscardedEvent, Partition

admin.site.site_header = "Chat system: applications, chats and messages"
admin.site.site_title = "Chat system"
admin.site.index_title = "Stored data, and events that could not be stored"
admin.site.index_template = "backoffice/index.html"
# There is no page at / to link to.
admin.site.site_url = None


class EventAdmin(BigTableAdmin):
    """A list of events that were acknowledged but not stored."""

    search_fields = ["path"]
    search_help_text = "A token, or token/chat/message as in the path."

    @admin.display(description="text")
    def short_text(self, event: AcknowledgedEvent) -> str:
        return shortened(event.text)

    @admin.display(description="arrived at")
    def arrived_at(self, event: AcknowledgedEvent) -> datetime:
        return to_datetime(event.arrival)

    def search(self, request: HttpRequest, rows: QuerySet, term: str) -> QuerySet:
        path = Path.parse(term)
        if path is None:
            return rows.none()
        parts = [str(part) for part in (path.token, path.chat, path.message) if part is not None]
        exact = "/".join(parts)
        within = rows.filter(path=exact) | rows.filter(path__gte=f"{exact}/", path__lt=f"{exact}0")
        return within.filter(partition=partition_of(path.token))

    def get_fields(self, request: HttpRequest, obj: AcknowledgedEvent | None = None) -> Any:
        return self.readonly_fields


@admin.register(DeadEvent)
class DeadEventAdmin(EventAdmin):
    list_display = ["died_at", "verb", "path", "short_text", "short_error"]
    list_display_links = ["died_at"]
    actions = ["replay_selected", "discard_selected"]
    readonly_fields = ["verb", "path", "text", "error", "partition_id", "arrived_at", "died_at"]

    @admin.display(description="error")
    def short_error(self, event: DeadEvent) -> str:
        return shortened(event.error)

    def render_change_form(self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        # The change permission allows replaying. The form itself has nothing to save.
        context |= {"show_save": False, "show_save_and_continue": False}
        return super().render_change_form(request, context, *args, **kwargs)

    @admin.action(description="Replay the selected dead events", permissions=["change"])
    def replay_selected(self, request: HttpRequest, queryset: QuerySet) -> None:
        events, rest = bounded(dead_events.oldest_first(queryset))
        outcomes: Counter[str] = Counter()
        try:
            for outcome in dead_events.replay_each(events):
                outcomes[outcome] += 1
        except (LogUnavailable, *DATABASE_AWAY):
            rest += " It stopped early, because the database or the state Redis is down. Select the others again."
        told = [f"{outcomes[dead_events.STORED]:,} of {len(events):,} {noun(DeadEvent, len(events))} stored."]
        if outcomes[dead_events.REFUSED]:
            told.append(f"Refused again: {outcomes[dead_events.REFUSED]:,}. The error column says why.")
        if outcomes[dead_events.GONE]:
            told.append(f"Already replayed or discarded: {outcomes[dead_events.GONE]:,}.")
        level = messages.WARNING if outcomes[dead_events.REFUSED] or rest else messages.SUCCESS
        self.message_user(request, " ".join(told) + rest, level)

    @admin.action(description="Discard the selected dead events…", permissions=["change"])
    def discard_selected(self, request: HttpRequest, queryset: QuerySet) -> HttpResponse | None:
        # Newest first: an event goes before the one that it depends on.
        events, rest = bounded(queryset.order_by("partition", "-arrival"))
        reason = request.POST.get("reason", "").strip()
        if "confirmed" not in request.POST or not reason:
            context = {
                **self.admin_site.each_context(request),
                "title": "Discard dead events",
                "opts": self.opts,
                "events": events,
                "rest": rest,
                "reason_is_missing": "confirmed" in request.POST,
            }
            return TemplateResponse(request, "backoffice/discard.html", context)
        discarded = gone = 0
        for event in events:
            try:
                dead_events.discard(event, request.user.get_username(), reason)
                discarded += 1
            except DeadEvent.DoesNotExist:
                gone += 1
            except (LogUnavailable, *DATABASE_AWAY):
                rest += " It stopped early, because the database or the state Redis is down. Select the others again."
                break
        told = f"{discarded:,} of {len(events):,} {noun(DeadEvent, len(events))} discarded."
        told += f" Already replayed or discarded: {gone:,}." if gone else ""
        self.message_user(request, told + rest, messages.WARNING if rest else messages.SUCCESS)
        return None


@admin.register(DiscardedEvent)
class DiscardedEventAdmin(EventAdmin):
    list_display = ["discarded_at", "discarded_by", "reason_in_short", "verb", "path", "short_text"]
    list_display_links = ["discarded_at"]
    readonly_fields = [
        *("verb", "path", "text", "error", "partition_id", "arrived_at", "died_at"),
        *("discarded_at", "discarded_by", "reason"),
    ]

    @admin.display(description="reason")
    def reason_in_short(self, event: DiscardedEvent) -> str:
        return shortened(event.reason)

    def has_change_permission(self, request: HttpRequest, obj: DiscardedEvent | None = None) -> bool:
        return False


class PartitionList(ChangeList):
    """Reads the lengths of all logs in one round trip."""

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        try:
            lengths = stream.lengths()
        except LogUnavailable:
            lengths = None
            messages.warning(request, "The state Redis is down, so the number of waiting events is unknown.")
        for partition in self.result_list:
            partition.waiting = None if lengths is None else lengths.get(partition.pk, 0)


@admin.register(Partition)
class PartitionAdmin(admin.ModelAdmin):
    list_display = ["id", "stored_through", "waiting"]
    list_display_links = None
    ordering = ["pk"]
    sortable_by = ()

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return PartitionList

    @admin.display(description="stored through", empty_value="nothing yet")
    def stored_through(self, partition: Partition) -> datetime | None:
        return to_datetime(partition.drained_through) if partition.drained_through else None

    @admin.display(description="events waiting", empty_value="unknown")
    def waiting(self, partition: Any) -> int | None:
        return partition.waiting

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Partition | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Partition | None = None) -> bool:
        return False
