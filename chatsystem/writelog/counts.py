"""The counts of children: the drain updates them, the reconcile verifies them. Documented in docs/counts.md."""

from __future__ import annotations

import logging
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace

from django.conf import settings
from django.core.cache import cache
from django.db.models import Count, F, Model, OuterRef, QuerySet, Subquery
from django.db.models.functions import Coalesce
from django.utils.module_loading import import_string

from chatsystem.cache import with_fallback
from chatsystem.writelog import stats
from chatsystem.writelog.exceptions import LogUnavailable
from chatsystem.writelog.keys import partition_of
from chatsystem.writelog.partitions import locked

logger = logging.getLogger(__name__)

#: Parents that one query counts: few enough that even large ones stay within a statement's time-out.
SLICE = 100

#: Cache key of the last reconcile's result, for people to look at and for nothing else.
LAST_RECONCILE = "writelog:reconciled"


@dataclass(frozen=True, slots=True)
class Drift:
    """A parent whose count is not the number of its children."""

    parent_id: int
    token: str
    stored: int
    actual: int


@dataclass(frozen=True)
class ChildCount:
    """A count: `parent.field` is the number of `child` rows whose `foreign_key` is the parent."""

    parent: type[Model]
    field: str
    child: type[Model]
    foreign_key: str
    #: The look-up from the parent to its application's token, which determines the partition.
    token: str

    def __str__(self) -> str:
        return f"{self.parent._meta.model_name}.{self.field}"

    def add(self, inserted: Counter[int]) -> None:
        """Adds the rows that this transaction inserted (parent id → rows). Marks these parents for a reconcile."""
        by_increment: dict[int, list[int]] = defaultdict(list)
        for parent_id, rows in inserted.items():
            by_increment[rows].append(parent_id)
        for rows, parent_ids in by_increment.items():
            self.parent._default_manager.filter(pk__in=parent_ids).update(
                **{self.field: F(self.field) + rows}, recount_due=True
            )

    def drifts(self, parents: QuerySet) -> list[Drift]:
        """Returns the parents with a wrong count. One statement sees one state, so a running drain is no drift."""
        wrong = parents.annotate(actual_count=self._actual()).exclude(actual_count=F(self.field))
        return [Drift(*row) for row in wrong.values_list("pk", self.token, self.field, "actual_count")]

    def _actual(self) -> Coalesce:
        children = self.child._default_manager.filter(**{self.foreign_key: OuterRef("pk")}).order_by()
        return Coalesce(Subquery(children.values(self.foreign_key).annotate(n=Count("pk")).values("n")), 0)

    def repair(self, parent_ids: Iterable[int], partition: int) -> list[Drift]:
        """Counts again under the partition's lock, so that no drain adds a row between counting and writing."""
        with locked(partition):
            parents = self.parent._default_manager.filter(pk__in=list(parent_ids))
            drifts = self.drifts(parents)
            for drift in drifts:
                self.parent._default_manager.filter(pk=drift.parent_id).update(**{self.field: drift.actual})
            parents.filter(recount_due=True).update(recount_due=False)
        if drifts:
            # If Redis is down, the log line below still reports the drift.
            with suppress(LogUnavailable):
                stats.count_drifts(partition, len(drifts))
        for drift in drifts:
            logger.error("%s drifted: id %d had %d, has %d", self, drift.parent_id, drift.stored, drift.actual)
        return drifts

    def slices(self) -> Iterator[QuerySet]:
        """Yields all parents, by ranges of the primary key."""
        last = 0
        while True:
            ids = self.parent._default_manager.filter(pk__gt=last).order_by("pk").values_list("pk", flat=True)[:SLICE]
            if not (found := list(ids)):
                return
            yield self.parent._default_manager.filter(pk__gt=last, pk__lte=found[-1])
            last = found[-1]

    def verify(self, *, repair: bool) -> Iterator[tuple[int, list[Drift]]]:
        """Verifies all parents, slice by slice. Yields the number verified and the drifts, which `repair` corrects."""
        for parents in self.slices():
            drifts = self.drifts(parents)
            if drifts and repair:
                # Counts again under the lock: another process may have repaired it by now.
                drifts = self.repair_all((drift.parent_id, drift.token) for drift in drifts)
            yield parents.count(), drifts

    def repair_all(self, parents: Iterable[tuple[int, str]]) -> list[Drift]:
        """Repairs parents, given as (id, token), partition by partition."""
        by_partition: dict[int, list[int]] = defaultdict(list)
        for parent_id, token in parents:
            by_partition[partition_of(token)].append(parent_id)
        return [drift for partition, ids in sorted(by_partition.items()) for drift in self.repair(ids, partition)]


def all_counts() -> list[ChildCount]:
    return [import_string(name) for name in settings.WRITE_LOG_COUNTS]


@dataclass(frozen=True, slots=True)
class Reconciled:
    """When the counts were last verified, and when how many drifts were last found (None: never, as far as known)."""

    at: float
    drifts: int = 0
    drifted_at: float | None = None


def last_reconcile() -> Reconciled | None:
    found: Reconciled | None = with_fallback(lambda: cache.get(LAST_RECONCILE), None)
    return found


def note_reconcile(drifts: int) -> None:
    now = time.time()
    before = last_reconcile() or Reconciled(now)
    noted = Reconciled(now, drifts, now) if drifts else replace(before, at=now)
    with_fallback(lambda: cache.set(LAST_RECONCILE, noted, None), None)


def reconcile_due() -> list[Drift]:
    """Verifies the counts that drains have moved since the last time. Repairs and returns the wrong ones."""
    drifts = []
    for count in all_counts():
        due = count.parent._default_manager.filter(recount_due=True)
        while parents := list(due.values_list("pk", count.token)[:SLICE]):
            drifts += count.repair_all(parents)
    note_reconcile(len(drifts))
    return drifts
