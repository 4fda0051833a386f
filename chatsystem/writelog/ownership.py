"""Ownership: decides from which state Redis the database takes a partition's events. Documented in docs/write-log.md.

The fence stops a Redis from giving out numbers that the database already holds. Ownership protects the database from an
old or a second Redis: an old primary that missed a failover, or the Redis of a host on which REDIS_URL was forgotten.
The database names the owner of each partition, by its run_id and replication id. A drain refuses the log of any other
Redis. append accepts writes only while a lease says that the owner was confirmed lately.

Another Redis takes a partition over at once if it has all of the owner's state: it is the same one after a restart, the
promoted replica, or the node of a Cluster to which the partition's slot was moved. Otherwise it takes over when the
owner has not been confirmed for TAKE_OVER_AFTER seconds.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Mapping, Sequence

from django.db import DatabaseError, InterfaceError, transaction
from django.db.models import F

from chatsystem.writelog import redis_guards, rollback_guard, terms
from chatsystem.writelog.database_errors import LOCKED, number
from chatsystem.writelog.exceptions import LogUnavailable, Superseded, Unreplicated
from chatsystem.writelog.models import Owner, Partition
from chatsystem.writelog.redis_client import expect_replicas, groups, now
from chatsystem.writelog.redis_guards import Guards
from chatsystem.writelog.scripts import incarnation
from chatsystem.writelog.servers import SINGLE, servers

logger = logging.getLogger(__name__)

#: Seconds for which append relies on a confirmation. Shorter than TAKE_OVER_AFTER: an owner that cannot be confirmed
#: stops accepting before another Redis starts.
LEASE = 6.0
#: Seconds without a confirmation of the owner after which another Redis takes over: four sweeps of the owner, and short
#: enough that the service is back 15 s after a Redis was lost.
TAKE_OVER_AFTER = 8.0
#: Longest gap in seconds between two observations of the owner that count as one watch. A longer gap starts a new
#: watch: in an outage of the database nobody can confirm anything.
GAP = 5.0

NO_LEASE = ("", 0)

#: The reason that readiness and the logs show.
REASON = "superseded: the database takes events from another Redis than REDIS_URL names"


class Overtaken(LogUnavailable):
    """Another process has claimed the partitions since this one decided to, or the owner has shown itself."""


def lease_of(owner: str, at: int) -> tuple[str, int]:
    """Returns the owner and the end of its lease in microseconds. `at` is when the confirmation began."""
    return owner, at + int(LEASE * 1_000_000)


# Each function that takes `partitions` takes all those that one Redis serves, and asks that Redis.


def keep(partitions: Sequence[int]) -> None:
    """Confirms that this Redis is the owner. Renews the leases even while the database is down.

    Called by every sweep, and by a request that finds no lease. Raises `Superseded` like `confirm`.
    """
    at = now(partitions[0])
    try:
        confirm(partitions)
    except (DatabaseError, InterfaceError) as error:
        if number(error) in LOCKED:
            # The database answers, so another Redis may be about to take over.
            raise LogUnavailable("the owner could not be confirmed") from error
        # Nobody can take over while the database does not answer, so the last confirmation still holds.
        logger.warning("could not confirm the owner: %s", type(error).__name__)
        mine = incarnation(partitions[0])
        guards = redis_guards.guards_of(partitions)
        # What another Redis had taken over before the database went down has no lease of this one any more.
        owned = [partition for partition in partitions if not guards[partition].superseded]
        redis_guards.renew_leases(_due(guards, owned, mine), *lease_of(mine, at))


def confirm(partitions: Sequence[int]) -> None:
    """Confirms that this Redis is the owner or makes it the owner. Then passes its fences and renews its leases.

    Raises `Superseded` if others own all of the partitions. Reads and writes of a partition that another owns raise it
    from then on.
    """
    try:
        _confirm(partitions)
    except Overtaken:
        # After a start or a restart, the first sweep and the first writes claim at the same time, for the same Redis.
        _confirm(partitions)


def _confirm(partitions: Sequence[int]) -> None:
    mine = incarnation(partitions[0])
    # Read the clock before asking the database. However long this process is stopped in between, the lease then ends
    # before another Redis can take over.
    lease = lease_of(mine, now(partitions[0]))
    _show_up(partitions[0], mine)
    # Read after this Redis has shown up. A Redis that took over without seeing that is named in these rows.
    rows = _rows(partitions)
    guards = redis_guards.guards_of(partitions)
    claimed = [p for p in partitions if rows[p].owner != mine or _is_unpassed(guards[p], mine)]
    others: list[int] = []
    if claimed:
        others = _claim(mine, {p: rows[p] for p in claimed}, guards)
        # Another process may have taken over for this Redis before `_claim` has superseded it.
        others = [partition for partition, row in _rows(others).items() if row.owner != mine]
        guards = redis_guards.guards_of(partitions)
    owned = [partition for partition in partitions if partition not in others]
    redis_guards.renew_leases(_due(guards, owned, mine), *lease)
    if back := [partition for partition in owned if guards[partition].superseded]:
        redis_guards.reinstate(back)
        logger.warning("this state Redis is the owner again: %d partitions resume", len(back))
    if not owned:
        raise Superseded(REASON)


def set_owner() -> None:
    """Makes the Redis servers that REDIS_URL names the owners unconditionally, on an operator's decision."""
    for partitions in groups():
        _take_over(
            incarnation(partitions[0]),
            _rows(partitions),
            redis_guards.guards_of(partitions),
            _confirmations(),
            watched=False,
        )


def superseded(partitions: Sequence[int]) -> list[int]:
    """Returns the partitions that another Redis owns and that this one may not take over at once."""
    mine, rows, guards = incarnation(partitions[0]), _rows(partitions), redis_guards.guards_of(partitions)
    return [p for p in partitions if not _may_take_over(mine, rows[p], guards[p])]


def _show_up(partition: int, mine: str) -> None:
    """Counts a confirmation of this Redis, which those who watch the owner see.

    Raises `Unreplicated` for an owner that cannot acknowledge: one of its replicas may be about to take over.
    """
    try:
        expect_replicas(partition)
    except Unreplicated:
        if Partition.objects.filter(owner=mine).exists():
            raise
        return
    Owner.objects.filter(redis=mine).update(confirmations=F("confirmations") + 1)


def _is_unpassed(found: Guards, mine: str) -> bool:
    """Returns whether a fence must be passed. The fence of a halted partition stays as it is."""
    return (found.passed_by != mine or not found.clock) and not found.behind


def _due(guards: Mapping[int, Guards], owned: Sequence[int], mine: str) -> list[int]:
    """Returns the partitions whose lease is half over. Writing all of them each time would fill an idle Redis's disk.

    Includes those whose lease is too long because the clock of Redis was set back.
    """
    return [p for p in owned if guards[p].lease != mine or not LEASE / 2 < guards[p].lease_left <= LEASE]


def _rows(partitions: Sequence[int]) -> dict[int, Partition]:
    return Partition.objects.in_bulk(list(partitions))


def _confirmations() -> dict[str, int]:
    """Returns how often each Redis that ever was an owner has shown up."""
    return dict(Owner.objects.values_list("redis", "confirmations"))


def _claim(mine: str, rows: Mapping[int, Partition], guards: Mapping[int, Guards]) -> list[int]:
    """Makes this Redis the owner of those partitions that it may take over. Returns the others, superseded."""
    # Read before the rows are compared: a confirmation that follows makes the take-over fail.
    confirmations = _confirmations()
    at_once = {p: row for p, row in rows.items() if _may_take_over(mine, row, guards[p])}
    if at_once:
        _take_over(mine, at_once, guards, confirmations, watched=False)
    others: list[int] = []
    for owner in sorted({row.owner for p, row in rows.items() if p not in at_once}):
        theirs = {p: row for p, row in rows.items() if p not in at_once and row.owner == owner}
        # A drain proves that the owner is alive, as a confirmation does.
        seen = f"{confirmations.get(owner)} {sum(row.drained_through for row in theirs.values())}"
        if differs_from_layout(theirs.values()):
            # The owner may hold events that no process reads any more. Only `move_partitions` brings them here.
            others += theirs
        elif redis_guards.watched(min(guards), owner, seen, GAP) < TAKE_OVER_AFTER:
            others += theirs
        else:
            _take_over(mine, theirs, guards, confirmations, watched=True)
    redis_guards.supersede([partition for partition in others if not guards[partition].superseded])
    return others


def differs_from_layout(rows: Iterable[Partition]) -> bool:
    """Returns whether a partition was taken over when REDIS_URL named other servers."""
    layout = servers().layout
    same = {"", layout, SINGLE} if layout in ("socket", "server") else {"", layout}
    return any(row.layout not in same for row in rows)


def _may_take_over(mine: str, row: Partition, found: Guards) -> bool:
    """Returns whether this Redis is the owner or may become it at once.

    It may if it has all of the owner's state that the database knows of: a restart, a failover, or a moved slot.
    """
    has_state = found.passed_by == row.owner and found.clock >= row.drained_through
    return row.owner in ("", mine) or has_state


def name_owner(mine: str, rows: Collection[Partition], previous: Mapping[int, str]) -> None:
    """Stores that a Redis owns the partitions, whose state it must have, and the terms. The rows are locked."""
    for row in rows:
        row.owner, row.previous, row.layout = mine, previous[row.pk], servers().layout
    Partition.objects.bulk_update(rows, ["owner", "previous", "layout", "term"])
    Owner.objects.get_or_create(redis=mine)


def _previous(mine: str, row: Partition) -> str:
    """Returns the Redis whose state this one must have to go on with its numbers.

    An upgrade leaves partitions without an owner: this Redis keeps the numbers that it has given in them. If it is
    named already, another process is about to let it pass, or died before it could.
    """
    if row.owner == mine:
        return row.previous or mine
    return row.owner or mine


def _take_over(
    mine: str,
    rows: Mapping[int, Partition],
    guards: Mapping[int, Guards],
    confirmations: dict[str, int],
    watched: bool,
) -> None:
    """Names this Redis the owner of the rows in the database, commits, and then passes the fences.

    `rows` and `confirmations` are what was read before the decision. With `watched`, the owner was watched, and nothing
    may have been stored since. Raises `Overtaken` if the decision no longer holds.
    """
    # A fence of an earlier term of this Redis. The owner has given out numbers since.
    redis_guards.drop_fences(
        [p for p, row in rows.items() if row.owner not in ("", mine) and guards[p].passed_by == mine]
    )
    with transaction.atomic(durable=True):
        for owner in sorted({row.owner for row in rows.values()} - {"", mine}):
            # An update, and not only a comparison: of two nodes of a Galera cluster, one is then refused.
            same = Owner.objects.filter(redis=owner, confirmations=confirmations.get(owner))
            if not same.update(confirmations=F("confirmations") + 1):
                raise Overtaken("the owner has shown itself meanwhile")
            confirmations[owner] += 1
        # Waits for running drains. After this commit no drain of another Redis starts.
        locked = list(Partition.objects.select_for_update().filter(pk__in=list(rows)).order_by("pk"))
        if any(row.owner != rows[row.pk].owner for row in locked):
            raise Overtaken("the owner has changed meanwhile")
        if watched and any(row.drained_through != rows[row.pk].drained_through for row in locked):
            raise Overtaken("the owner has stored something meanwhile")
        # Read together with the rows: read later, it could be ahead of them.
        remembered = rollback_guard.all_stored_through(list(rows))
        behind = {row.pk for row in locked if remembered.get(row.pk, 0) > row.drained_through}
        passing = [row for row in locked if row.pk not in behind]
        previous = {row.pk: _previous(mine, row) for row in locked}
        begun = terms.begin(passing, guards, previous)
        name_owner(mine, locked, previous)
    if watched:
        logger.warning("this state Redis is the owner now: the former one has not shown up for %d s", TAKE_OVER_AFTER)
    for partition in behind:
        rollback_guard.halt(partition)
    through = {row.pk: row.drained_through for row in passing}
    for partition, outcome in redis_guards.pass_fences(through, mine, previous, begun).items():
        if outcome == "other":
            raise LogUnavailable("the state Redis is another one than a moment ago")
        if outcome == "begun" and through[partition]:
            logger.warning("partition %d: the state Redis has lost stored events, so its numbers are seeded", partition)
