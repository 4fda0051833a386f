"""Admin lists that stay fast at millions of rows. Documented in docs/operations.md."""

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

#: Rows that a list pages through. Searching finds the others.
LISTED = 10_000
#: Rows that one action processes.
ACTED_ON = 1_000

#: What the database raises when it is down or busy.
DATABASE_AWAY = (OperationalError, InterfaceError)


class BoundedPaginator(Paginator):
    """Counts up to a bound. COUNT(*) would read the whole index for each page."""

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
    """Filters by age without an index on it. Primary keys ascend with time, except for small shifts between drains."""

    title = "created"
    parameter_name = "created"

    AGES = {"hour": timedelta(hours=1), "day": timedelta(days=1), "week": timedelta(weeks=1)}
    #: How much later than its neighbours a row may be stored and still be found.
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
    """Returns the primary key of the first row since the moment, by bisection (about 20 point lookups)."""
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
    """A search term that names an entity: an application's token, and numbers within it."""

    token: str
    chat: int | None
    message: int | None

    #: `token/3/17`, or a path or URL of the API.
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
    """Filters by prefix, with the field's index. SQLite uses no index for the LIKE … ESCAPE of `startswith`."""
    return rows.filter(**{f"{field}__gte": letters, f"{field}__lt": letters + chr(0x10FFFF)}).order_by(field, "pk")


class BigTableAdmin(admin.ModelAdmin):
    """A list, newest first, that is fast however many rows there are. It does not add or delete."""

    paginator = BoundedPaginator
    list_per_page = 50
    list_max_show_all = 200
    show_full_result_count = False
    # Counting each choice of a filter, and sorting by a column without an index, would read the whole table.
    show_facets = admin.ShowFacets.NEVER
    sortable_by = ()
    change_list_template = "backoffice/change_list.html"

    def get_queryset(self, request: HttpRequest) -> QuerySet:
        return super().get_queryset(request).order_by("-pk")

    def get_search_results(self, request: HttpRequest, queryset: QuerySet, search_term: str) -> tuple[QuerySet, bool]:
        return (self.search(request, queryset, search_term) if search_term else queryset), False

    def search(self, request: HttpRequest, rows: QuerySet, term: str) -> QuerySet:
        """Returns the rows that `term` names. It must use an index, and its order."""
        raise NotImplementedError

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest) -> bool:
        # A field name typed into the URL would filter without an index.
        return lookup in {spec.parameter_name for spec in self.list_filter}  # type: ignore[union-attr]

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False


def shortened(text: str) -> str:
    """Returns the text shortened to a list cell. The template escapes it."""
    return Truncator(" ".join(text[:200].split())).chars(80) or "(blank)"


def bounded(rows: QuerySet) -> tuple[list[Any], str]:
    """Returns the first of the selected rows, and a sentence to show if there are more."""
    taken = list(rows[: ACTED_ON + 1])
    if len(taken) <= ACTED_ON:
        return taken, ""
    return taken[:ACTED_ON], f" Only the first {ACTED_ON:,} of the selected ones were processed."


def noun(model: type[Model], count: int) -> str:
    return str(model._meta.verbose_name if count == 1 else model._meta.verbose_name_plural)
