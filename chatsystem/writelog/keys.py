"""Every key of the state Redis. Nothing else spells one.

All keys of a partition `p` share the hash tag `{p}`, so that one script reaches them on a Redis Cluster too.

key                        | type   | written by   | presence means                                | removed by
---------------------------|--------|--------------|-----------------------------------------------|-----------------
`{p}:log`                  | stream | append       | events acknowledged and not yet stored        | remove
`{p}:clock`                | string | append, pass | arrival of the newest event, in microseconds; | nobody
                           |        | withdraw     | moves with whatever a read could see          |
`{p}:fence`                | string | pass         | the lineage whose numbers count, and run_id   | accept
                           |        |              | and replid of the Redis that may trust them   |
`{p}:numbers`              | hash   | append, seed | parent path → last number given to a child,   | withdraw
                           |        |              | and the lineage in which that is true         |
`{p}:usage`                | hash   | append       | token → events and bytes of its that wait     | remove
`{p}:totals`               | hash   | append       | `acknowledged`: events accepted, ever          | nobody
                           |        | remove       | `stored`: events that have left the log, ever |
`{p}:pending`              | hash   | append       | path → newest acknowledged text, for reads    | remove, withdraw
                           |        | halt         | `behind`: the database is older than `stored` | resume, accept
`{p}:stored`               | string | remove       | arrival of the newest event that a database   | accept lowers it
                           |        |              | has committed                                 |
`{p}:receipt:<scope>:<id>` | string | append       | this request was answered, and with what      | its time to live
`{p}:hinted`               | string | append       | a drain was asked for and has not begun       | drain; 2 s
`{p}:seeding`              | string | seed         | someone compares numbers with the database    | seed; its lease
`heartbeat`                | string | workers      | a worker was at work                          | 15 s
`probe`                    | string | readiness    | writes are taken                              | 1 s

A *path* names an entity: `token`, `token/chat` or `token/chat/message`; the empty path is the parent of applications.
"""

from __future__ import annotations

import hashlib
from binascii import crc32
from dataclasses import dataclass

#: How many partitions there are. Part of the stored state: never changed under a log that holds events.
PARTITIONS = 64

#: Field of the pending view, where every read and every write comes by. No path: those begin with a token.
BEHIND = "behind"

HEARTBEAT = "heartbeat"
PROBE = "probe"


def partition_of(token: str) -> int:
    """The partition, 0 to 63, that holds all of an application's state."""
    return crc32(token.encode()) % PARTITIONS


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys of one partition."""

    partition: int

    def _key(self, name: str) -> str:
        return f"{{{self.partition}}}:{name}"

    @property
    def log(self) -> str:
        return self._key("log")

    @property
    def clock(self) -> str:
        return self._key("clock")

    @property
    def fence(self) -> str:
        return self._key("fence")

    @property
    def numbers(self) -> str:
        return self._key("numbers")

    @property
    def pending(self) -> str:
        return self._key("pending")

    @property
    def stored(self) -> str:
        return self._key("stored")

    @property
    def usage(self) -> str:
        return self._key("usage")

    @property
    def totals(self) -> str:
        return self._key("totals")

    @property
    def hinted(self) -> str:
        return self._key("hinted")

    def receipt(self, scope: str, request_id: str) -> str:
        """`request_id` may be a client's own words: hashed, so that the key has one length."""
        return self._key(f"receipt:{scope}:{hashlib.sha256(request_id.encode()).hexdigest()[:32]}")

    @property
    def seeding(self) -> str:
        return self._key("seeding")
