"""Lists that answer at once at a million rows. Documented in docs/operations.md."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any

from django.contrib import admin
from django.core.paginator import Paginator
from django.db import InterfaceError, OperationalError
from django.db.models import Model, QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.text import Truncator

from chatsystem.writelog.reads import MAX_NUMBER

#: Rows that a list pages through; those beyond are found by searching.
LISTED = 10_000
#: Rows that one action takes on.
ACTED_ON = 1_000

#: What the database raises when it cannot go on now.
DATABASE_AWAY = (OperationalError, InterfaceError)


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
    change_list_template = "backoffice/change_list.html"

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


def noun(model: type[Model], count: int) -> str:
    return str(model._meta.verbose_name if count == 1 else model._meta.verbose_name_plural)
