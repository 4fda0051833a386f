"""Moves partitions from one state Redis to another. Documented in docs/redis.md, "Change the number of servers".

A partition moves as a whole: its log, numbers, pending view and receipts. It accepts nothing meanwhile. The order makes
a crash harmless at any point: the former Redis keeps all keys until the database names the new one.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from chatsystem.writelog import ownership, redis_guards, terms
from chatsystem.writelog.exceptions import LogUnavailable
from chatsystem.writelog.keys import SUPERSEDED, Keys
from chatsystem.writelog.models import Partition
from chatsystem.writelog.partitions import locked
from chatsystem.writelog.redis_client import available, client
from chatsystem.writelog.scripts import incarnation
from chatsystem.writelog.servers import Servers, servers

#: The owner of a partition that is being moved. No Redis has this name, and none takes over from it.
MOVING = "moving"
#: Keys that are copied in one round trip.
AT_ONCE = 200

Progress = Callable[[int], object]


class Moved(NamedTuple):
    partitions: int
    keys: int


def partitions_to_move() -> list[int]:
    """Returns the partitions that lie where a former REDIS_URL said."""
    rows = Partition.objects.exclude(layout__in=("", servers().layout)).order_by("pk")
    return list(rows.values_list("pk", flat=True))


def move(partitions: Sequence[int], former: Servers, progress: Progress = int) -> Moved:
    """Moves the partitions whose Redis changes. Can be called again after it was interrupted.

    Calls `progress` with the number of keys, each time some are copied.
    """
    with available():
        moving = [partition for partition in partitions if not _stays(partition, former)]
        for partition in moving:
            _halt(partition, former)
        names: dict[int, list[str]] = {partition: [] for partition in moving}
        for group in former.groups():
            # Listed once for all partitions: a Redis can only list all of its keys.
            for name in former.client(group[0]).scan_iter("{*}:*", count=1_000):
                if (partition := int(name[1 : name.index("}")])) in names:
                    names[partition].append(name)
        for partition in moving:
            _copy(names[partition], former.client(partition), client(partition), progress)
            _take_over(partition, former)
            _forget(partition, names[partition], former.client(partition))
    return Moved(len(moving), sum(map(len, names.values())))


def _stays(partition: int, former: Servers) -> bool:
    """Returns whether the same Redis serves the partition as before. Its row is brought up to date then."""
    # Two addresses may lead to one Redis. Copied onto itself, the partition would be deleted in the end.
    key, mark = Keys(partition).probe, secrets.token_hex(16)
    former.client(partition).set(key, mark, px=60_000)
    if client(partition).get(key) != mark:
        return False
    Partition.objects.filter(pk=partition).update(layout=servers().layout)
    return True


def _halt(partition: int, former: Servers) -> None:
    """Stops reads, writes and drains of the partition on the former Redis."""
    source, keys = former.client(partition), Keys(partition)
    with locked(partition) as row:
        if row.owner == MOVING:
            return
        # Without its fence, the former Redis accepts nothing until it takes the partition over, which needs this row.
        # The fence is kept: with it, the new Redis may trust the numbers.
        if source.exists(keys.fence):
            source.rename(keys.fence, keys.moving)
        source.hset(keys.pending, SUPERSEDED, "1")
        row.owner = MOVING
        row.save(update_fields=["owner"])


def _copy(names: Sequence[str], source: Any, target: Any, progress: Progress) -> None:
    """Copies keys, with the time that they have left."""
    for start in range(0, len(names), AT_ONCE):
        part = names[start : start + AT_ONCE]
        with source.pipeline(transaction=False) as reading:
            for name in part:
                reading.dump(name).pttl(name)
            found = reading.execute()
        with target.pipeline(transaction=False) as writing:
            for name, dumped, left in zip(part, found[::2], found[1::2], strict=True):
                # A receipt may have expired since it was listed.
                if dumped is not None:
                    writing.restore(name, max(left, 0), dumped, replace=True)
            writing.execute()
        progress(len(part))


def _take_over(partition: int, former: Servers) -> None:
    """Lets the new Redis serve the partition, once it holds all that the former one held."""
    source, target, keys = former.client(partition), client(partition), Keys(partition)
    with locked(partition) as row:
        if (held := source.xlen(keys.log)) != (copied := target.xlen(keys.log)):
            raise LogUnavailable(f"partition {partition}: {copied} of {held} events were copied; run this again")
        fence = target.get(keys.moving) or ""
        if fence:
            target.rename(keys.moving, keys.fence)
        target.hdel(keys.pending, SUPERSEDED)
        mine = incarnation(partition)
        previous = {partition: redis_guards.passed_by(fence)}
        begun = terms.begin([row], redis_guards.guards_of([partition]), previous)
        ownership.name_owner(mine, [row], previous)
    redis_guards.pass_fences({partition: row.drained_through}, mine, previous, begun)


def _forget(partition: int, names: Sequence[str], source: Any) -> None:
    """Deletes the moved keys. Leaves a mark, so that a process that still asks the former Redis gets 503."""
    for start in range(0, len(names), AT_ONCE):
        source.unlink(*names[start : start + AT_ONCE])
    source.hset(Keys(partition).pending, SUPERSEDED, "1")
