"""Terms: which events of a partition's former Redis processes still count. Documented in docs/live.md.

A term begins when a Redis passes the fence: after each restart, failover or loss. Such a Redis may lack events that the
former one had accepted, and whose arrivals it gives to others. So a reader's position names the term and an arrival.
Through which arrival the events of a former term count is stored in the database, which outlives every Redis.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from django.db.models import Min

from chatsystem.writelog.models import FormerTerm, Partition
from chatsystem.writelog.redis_guards import Guards


def begin(rows: Sequence[Partition], guards: Mapping[int, Guards], previous: Mapping[int, str]) -> dict[int, int]:
    """Begins a term of each partition in the running transaction, which has locked their rows. Returns the new terms.

    `guards` are those of the Redis that passes the fence next, and `previous` names the Redis that passed it before.
    The caller saves the rows.
    """
    ended: dict[tuple[int, int], int] = {}
    for row in rows:
        found = guards[row.pk]
        # A Redis with all of the former one's state has its events up to the clock, which nothing moves before the
        # fence is passed. Otherwise only what is stored is left. pass_fence.lua decides by the same rule.
        kept = found.passed_by == previous[row.pk] and found.clock >= row.drained_through
        through = found.clock if kept else row.drained_through
        newest = max(row.term, found.term)
        # A later term than that of a Redis with all state was begun for the same Redis by another process, which passes
        # the fence at the same time. That term may be the next one, or stays unused.
        ended[row.pk, found.term if kept else newest] = through
        row.term = newest + 1
    known = {(one.partition_id, one.term): one for one in FormerTerm.objects.filter(partition__in=[*guards])}
    again = [known[each] for each in ended if each in known]
    for one in again:
        one.through = ended[one.partition_id, one.term]
    FormerTerm.objects.bulk_update(again, ["through"])
    fresh = ended.keys() - known.keys()
    FormerTerm.objects.bulk_create(
        FormerTerm(partition_id=partition, term=term, through=ended[partition, term])
        for partition, term in sorted(fresh)
    )
    return {row.pk: row.term for row in rows}


def counts_through(partition: int, term: int) -> int | None:
    """Returns through which arrival the events of a former term count now; None if the term is not known to be over.

    The smallest of all terms since: a later Redis may have lost what an earlier one still had.
    """
    later = FormerTerm.objects.filter(partition=partition, term__gte=term)
    through: int | None = later.aggregate(through=Min("through"))["through"]
    return through
