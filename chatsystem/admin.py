"""What the rooms' admins share. Documented in docs/operations.md.

Two promises: a list answers at once at a million rows, and an edit goes the way of an API update, through the log.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from difflib import SequenceMatcher
from functools import cached_property
from itertools import pairwise
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.core.paginator import Paginator
from django.db import InterfaceError, OperationalError
from django.db.models import Field, Model, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.utils import timezone
from django.utils.text import Truncator
from rest_framework.serializers import Serializer

from chatsystem.writelog import log
from chatsystem.writelog.counts import all_counts
from chatsystem.writelog.drain import drain
from chatsystem.writelog.intake import Accepted
from chatsystem.writelog.keys import partition_of
from chatsystem.writelog.log import LogFull, LogUnavailable, UnknownEntity
from chatsystem.writelog.models import DeadEvent, Partition
from chatsystem.writelog.reads import MAX_NUMBER, overlay

admin.site.site_header = "Chat system: applications, chats and messages"
admin.site.site_title = "Chat system"
admin.site.index_title = "What is stored, and what could not be"
# There is no page at / to view.
admin.site.site_url = None

#: Rows that a list pages through; those beyond are found by searching.
LISTED = 10_000
#: Rows that one action takes on.
ACTED_ON = 1_000
#: Seconds that a person waits for a change to be stored before the workers are left to it.
PATIENCE = 5.0

DATABASE_AWAY = (OperationalError, InterfaceError)

# Lists ----------------------------------------------------------------------------------------------------------------


class BoundedPaginator(Paginator):
    """Counts up to a bound: COUNT(*) reads a whole index, of a million rows for each page."""

    @cached_property
    def _counted(self) -> int:
        rows: Any = self.object_list
        return rows.order_by().values("pk")[: LISTED + 1].count()

    @cached_property
    def count(self) -> int:
        return min(self._counted, LISTED)

    @property
    def more(self) -> bool:
        return self._counted > LISTED


class CreatedFilter(admin.SimpleListFilter):
    """By age, without an index on it: primary keys ascend with time but for the moments by which drains differ."""

    title = "created"
    parameter_name = "created"

    AGES = {"hour": timedelta(hours=1), "day": timedelta(days=1), "week": timedelta(weeks=1)}
    #: How much later than its neighbours a row may have been stored and is still found.
    MARGIN = timedelta(minutes=1)

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(age, f"in the last {age}") for age in self.AGES]

    def queryset(self, request: HttpRequest, queryset: QuerySet) -> QuerySet:
        age = self.AGES.get(self.value() or "")
        if age is None:
            return queryset
        since = timezone.now() - age
        return queryset.filter(pk__gte=first_since(queryset.model, since - self.MARGIN), created_at__gte=since)


def first_since(model: type[Model], moment: datetime) -> int:
    """The primary key from which on rows are no older: bisected, some 20 point look-ups."""
    rows = model._default_manager.order_by("pk").values_list("pk", "created_at")
    newest = rows.last()
    low, high = 0, newest[0] + 1 if newest else 0
    while low < high:
        middle = (low + high) // 2
        row = rows.filter(pk__gte=middle).first()
        if row is None or row[1] >= moment:
            high = middle
        else:
            low = row[0] + 1
    return low


@dataclass(frozen=True, slots=True)
class Path:
    """What somebody pasted into a search box: an application's token, and numbers within it."""

    token: str
    chat: int | None
    message: int | None

    #: `token/3/17`, and the same as the API's URLs spell it.
    PATTERN = re.compile(
        r"(?:\S*applications/)?([0-9a-f]{32})(?:/(?:chats/)?([1-9][0-9]{0,18})(?:/(?:messages/)?([1-9][0-9]{0,18}))?)?"
        r"(?:/(?:chats|messages))?/?"
    )

    @classmethod
    def parse(cls, term: str) -> Path | None:
        match = cls.PATTERN.fullmatch(term.strip())
        if match is None:
            return None
        chat, message = (None if number is None else int(number) for number in match.groups()[1:])
        if max(chat or 0, message or 0) > MAX_NUMBER:
            return None
        return cls(match[1], chat, message)


def begins_with(rows: QuerySet, field: str, letters: str) -> QuerySet:
    """A range of the field's index, in its order; SQLite uses none for the LIKE … ESCAPE that `startswith` makes."""
    return rows.filter(**{f"{field}__gte": letters, f"{field}__lt": letters + chr(0x10FFFF)}).order_by(field, "pk")


class BigTableAdmin(admin.ModelAdmin):
    """A list that answers at once however many rows there are, newest first. Nothing is added or deleted in it."""

    paginator = BoundedPaginator
    list_per_page = 50
    list_max_show_all = 200
    show_full_result_count = False
    # A count for each choice of a filter; sorting by a column without an index: both read the whole table.
    show_facets = admin.ShowFacets.NEVER
    sortable_by = ()
    change_list_template = "writelog/change_list.html"

    def get_queryset(self, request: HttpRequest) -> QuerySet:
        return super().get_queryset(request).order_by("-pk")

    def get_search_results(self, request: HttpRequest, queryset: QuerySet, search_term: str) -> tuple[QuerySet, bool]:
        return (self.search(request, queryset, search_term) if search_term else queryset), False

    def search(self, request: HttpRequest, rows: QuerySet, term: str) -> QuerySet:
        """The rows that `term` names, by an index and in its order."""
        raise NotImplementedError

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest) -> bool:
        # A field's name put into the URL by hand would be a look-up without an index.
        return lookup in {spec.parameter_name for spec in self.list_filter}  # type: ignore[union-attr]

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False


def shortened(text: str) -> str:
    """A text as one cell of a list. The template escapes it."""
    return Truncator(" ".join(text[:200].split())).chars(80) or "(blank)"


def bounded(rows: QuerySet) -> tuple[list[Any], str]:
    """The first of the selected rows, and what to tell when that is not all of them."""
    taken = list(rows[: ACTED_ON + 1])
    if len(taken) <= ACTED_ON:
        return taken, ""
    return taken[:ACTED_ON], f" Only the first {ACTED_ON:,} of the selected ones were taken on."


# Forms ----------------------------------------------------------------------------------------------------------------

NEWLINE = re.compile(r"\r\n|\r|\n")


def keep_newlines(shown: str, submitted: str) -> str:
    """`submitted` with the newlines that it had when it was `shown`: a browser turns each of them into \\r\\n.

    A line that was added ends as most lines of the text do, in \\n when there were none.
    """
    old, endings = NEWLINE.split(shown), NEWLINE.findall(shown)
    new = NEWLINE.split(submitted)
    usual = max(endings, key=endings.count) if len(set(endings)) > 1 else next(iter(endings), "\n")
    kept = [usual] * (len(new) - 1)
    # Lines alike at both ends first: in a text of mostly equal lines, the matcher takes those for noise.
    ahead = _alike(old, new)
    behind = min(_alike(old[::-1], new[::-1]), len(old) - ahead, len(new) - ahead)
    matcher = SequenceMatcher(None, old[ahead : len(old) - behind], new[ahead : len(new) - behind])
    pairs = [(i, i) for i in range(ahead)]
    for _, i1, i2, j1, j2 in matcher.get_opcodes():
        # Edited lines keep their own ends; where lines were added or joined, the last one keeps that of the last.
        lines = i2 - i1 if i2 - i1 == j2 - j1 else min(i2 - i1, j2 - j1, 1)
        pairs += [(ahead + i2 - 1 - i, ahead + j2 - 1 - i) for i in range(lines)]
    pairs += [(len(old) - 1 - i, len(new) - 1 - i) for i in range(behind)]
    for before, now in pairs:
        if before < len(endings) and now < len(kept):
            kept[now] = endings[before]
    for i, (ending, following) in enumerate(pairwise(kept)):
        # Brought together by an edit, these two would read as one.
        if ending == "\r" and following == "\n" and not new[i + 1]:
            kept[i] = "\r\n"
    return "".join(line + ending for line, ending in zip(new, [*kept, ""], strict=True))


def _alike(old: list[str], new: list[str]) -> int:
    count = 0
    for before, now in zip(old, new, strict=False):
        if before != now:
            break
        count += 1
    return count


class ShownText(forms.HiddenInput):
    """Carries the text that the form showed, as JSON: its newlines come back as they were."""

    def format_value(self, value: Any) -> str:
        return json.dumps(value, ensure_ascii=False)

    def value_from_datadict(self, data: Any, files: Any, name: str) -> str | None:
        try:
            shown = json.loads(super().value_from_datadict(data, files, name))
        except (TypeError, ValueError):
            return None
        return shown if isinstance(shown, str) else None


class ExactText(forms.CharField):
    """A text kept to the byte. A textarea even for a name: an input would drop its newlines."""

    hidden_widget = ShownText

    def __init__(self, *, rows: int, **kwargs: Any) -> None:
        widget = forms.Textarea(attrs={"rows": rows, "cols": 100})
        super().__init__(strip=False, show_hidden_initial=True, widget=widget, **kwargs)

    def has_changed(self, initial: Any, data: Any) -> bool:
        return NEWLINE.sub("\n", initial or "") != NEWLINE.sub("\n", data or "")


class EntityForm(forms.ModelForm):
    """Takes what the API takes: its serializer judges the text."""

    text_field: str
    serializer_class: type[Serializer]
    #: Why the write was not accepted the first time; shown above what was typed, which is not lost.
    refusal: str | None = None

    def clean(self) -> None:
        if self.refusal:
            raise ValidationError(self.refusal)
        text = self.cleaned_data.get(self.text_field)
        if text is None:
            return
        text = keep_newlines(self._shown(), text)
        judged = self.serializer_class(data={self.text_field: text})
        if judged.is_valid():
            self.cleaned_data[self.text_field] = text
        else:
            self.add_error(self.text_field, [str(error) for error in judged.errors[self.text_field]])

    def _shown(self) -> str:
        name = self[self.text_field].html_initial_name
        shown = ShownText().value_from_datadict(self.data, self.files, name)
        return self.initial[self.text_field] if shown is None else shown


class EntityAdmin(BigTableAdmin):
    """An application, chat or message. Its text can be edited: the write goes through the room's intake."""

    form = EntityForm
    text_field: str
    serializer_class: type[Serializer]
    text_rows = 2
    list_filter = [CreatedFilter]

    def path(self, obj: Any) -> str:
        """The entity's path in the log."""
        raise NotImplementedError

    def update(self, obj: Any, text: str) -> Accepted:
        """Hands the new text over to the room's intake."""
        raise NotImplementedError

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Any:
        """The entity as acknowledged: a change that waits in the log is what the form shows."""
        row = super().get_object(request, object_id, from_field)
        if row is None:
            return None
        path = self.path(row)
        try:
            pending = log.pending(path.partition("/")[0], path)
        except LogUnavailable:
            if request.method == "GET":
                self.message_user(
                    request,
                    "The state Redis is away: nothing can be saved now, and a change newer than this may wait.",
                    messages.WARNING,
                )
            return row
        # Asked for once more: what was pending a moment ago may have been stored since the row was read.
        row = super().get_object(request, object_id, from_field)
        return overlay(row, pending, self.text_field, self.model)

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
        """Not in one transaction, as Django would have it: the drain commits before an event leaves the log."""
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
        # save_model has told what became of it.
        if "_continue" in request.POST:
            return HttpResponseRedirect(request.get_full_path())
        return self.response_post_save_change(request, obj)


def _refusal(error: Exception) -> str:
    if isinstance(error, LogFull):
        return "Nothing was saved: too many writes of this application wait to be stored. Try again in a moment."
    if isinstance(error, LogUnavailable):
        return "Nothing was saved: the state Redis is away. Save again when it is back; /health/ready tells."
    return "Nothing was saved: neither the database nor the log knows this any more."


def _outcome(partition: int, arrival: int) -> tuple[str, int]:
    """Drains, so that the list shows an acknowledged change at once, and tells what has become of it."""
    try:
        drain(partition, PATIENCE)
        if DeadEvent.objects.filter(partition=partition, arrival=arrival).exists():
            return "The database refused the change. It is among the dead events, which tell why.", messages.ERROR
        if Partition.objects.filter(pk=partition, drained_through__gte=arrival).exists():
            return "The change is stored.", messages.SUCCESS
    except (LogUnavailable, *DATABASE_AWAY):
        pass
    return "The change is accepted, and will be stored when the workers come to it.", messages.WARNING


# Actions --------------------------------------------------------------------------------------------------------------


@admin.action(description="Recount the selected %(verbose_name_plural)s", permissions=["change"])
def recount(model_admin: admin.ModelAdmin, request: HttpRequest, queryset: QuerySet) -> None:
    """Counts their children again, under the partitions' locks, and repairs what differs."""
    [count] = [count for count in all_counts() if count.parent is model_admin.model]
    parents, rest = bounded(queryset.values_list("pk", count.token))
    try:
        drifts = count.repair_all(parents)
    except DATABASE_AWAY:
        model_admin.message_user(
            request, "The database is busy: some of them may not have been recounted. Try again.", messages.ERROR
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


def noun(model: type[Model], count: int) -> str:
    return str(model._meta.verbose_name if count == 1 else model._meta.verbose_name_plural)
