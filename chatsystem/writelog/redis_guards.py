"""The guards in Redis: what keeps a Redis from accepting writes that it may not. `ownership.py` decides.

The fence of a partition names the Redis process that may trust the partition's numbers. Its lease says until when that
Redis may rely on being the owner. Its flags stop it altogether. Documented in docs/write-log.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from chatsystem.writelog.keys import BEHIND, SUPERSEDED, Keys
from chatsystem.writelog.redis_client import available, client, now, of_each
from chatsystem.writelog.scripts import run_each


@dataclass(frozen=True, slots=True)
class Guards:
    """The fence, lease and flags of one partition."""

    passed_by: str
    #: 0 if Redis knows no arrival.
    clock: int
    lease: str
    #: Seconds.
    lease_left: float
    behind: bool
    superseded: bool
    #: 0 if Redis knows none (terms.py).
    term: int


def guards_of(partitions: Sequence[int]) -> dict[int, Guards]:
    """Returns the guards of one Redis's partitions."""
    with available(), client(partitions[0]).pipeline(transaction=False) as pipeline:
        for partition in partitions:
            keys = Keys(partition)
            pipeline.get(keys.fence).get(keys.clock).get(keys.lease).pttl(keys.lease)
            pipeline.hmget(keys.pending, BEHIND, SUPERSEDED).get(keys.term)
        found = pipeline.execute()
    each = zip(partitions, *[iter(found)] * 6, strict=True)
    return {
        partition: Guards(
            passed_by(fence), int(clock or 0), lease or "", left / 1000, bool(behind), bool(superseded), int(term or 0)
        )
        for partition, fence, clock, lease, left, (behind, superseded), term in each
    }


def passed_by(fence: str | None) -> str:
    """Returns the Redis that a fence names; '' without a fence."""
    return fence.split(" ")[1] if fence else ""


def fence_of(partition: int) -> str:
    """Returns the partition's fence as it is stored; '' if there is none."""
    with available():
        return client(partition).get(Keys(partition).fence) or ""


# One Redis serves all partitions that a call of the following functions names.


def drop_fences(partitions: Sequence[int]) -> None:
    """Removes the fences. The partitions accept nothing until `pass_fences` begins a new epoch for them."""
    if partitions:
        of_each(partitions, "delete", "fence")


def pass_fences(
    drained_through: Mapping[int, int], owner: str, previous: Mapping[int, str], terms: Mapping[int, int]
) -> dict[int, str]:
    """Lets the Redis `owner` pass these fences, which begins their `terms`.

    Returns 'kept', 'begun' or 'other' for each: see pass_fence.lua.
    """
    calls = {}
    for partition, through in drained_through.items():
        keys = Keys(partition)
        passed = (through, owner, previous[partition], terms[partition])
        calls[partition] = ((keys.fence, keys.clock, keys.term, keys.stored), passed)
    return run_each("pass_fence", calls)


def renew_leases(partitions: Sequence[int], owner: str, until: int) -> None:
    """Lets the Redis `owner` accept writes until then, by the clock of Redis in microseconds."""
    if not partitions:
        return
    with available(), client(partitions[0]).pipeline(transaction=False) as pipeline:
        for partition in partitions:
            pipeline.set(Keys(partition).lease, owner, pxat=until // 1000)
        pipeline.execute()


def supersede(partitions: Sequence[int]) -> None:
    """Stops all reads and writes of the partitions on this Redis."""
    if partitions:
        of_each(partitions, "hset", "pending", SUPERSEDED, "1")


def reinstate(partitions: Sequence[int]) -> None:
    """Reverts `supersede`."""
    if partitions:
        of_each(partitions, "hdel", "pending", SUPERSEDED)


def superseded(partitions: Sequence[int]) -> list[int]:
    """Returns those partitions that were superseded, as far as this Redis knows."""
    return [partition for partition, flag in of_each(partitions, "hexists", "pending", SUPERSEDED).items() if flag]


def watched(partition: int, owner: str, seen: str, gap: float) -> float:
    """Records an observation of an owner by the partition's Redis.

    Returns for how many seconds it has been the same, with at most `gap` seconds between two observations.
    """
    key, at = Keys(partition).watch(owner), now(partition)
    with available():
        since, _, before = (client(partition).get(key) or "").partition(" ")
        if before != seen:
            since = str(at)
        client(partition).set(key, f"{since} {seen}", px=int(gap * 1000))
    return (at - int(since)) / 1_000_000
