"""All keys of the state Redis. No other module spells one.

All keys of a partition `p` share the hash tag `{p}`, so that one script reaches them on a Redis Cluster too.

key                        | type   | written by     | presence means                                | removed by
---------------------------|--------|----------------|-----------------------------------------------|----------------
`{p}:log`                  | stream | append         | events that are acknowledged and not stored   | remove
`{p}:clock`                | string | append,        | arrival of the newest event, in microseconds; | nobody
                           |        | pass_fence,    | moves with everything that a read could see   |
                           |        | withdraw       |                                               |
`{p}:fence`                | string | pass_fence     | the epoch whose numbers count, and run_id and | take-over,
                           |        |                | replid of the Redis that may trust them       | accept_database
`{p}:term`                 | string | pass_fence     | the term that the fence began (terms.py);     | nobody
                           |        |                | absent: 0                                     |
`{p}:moving`               | string | move_partitions| the fence of a partition that is being moved  | move_partitions
`{p}:lease`                | string | sweep, remove  | the database named this Redis (run_id and     | 6 s
                           |        |                | replid) its owner a moment ago (ownership.py) |
`{p}:numbers`              | hash   | append, seed   | parent path → last number given to a child,   | withdraw
                           |        |                | and the epoch in which that is true           |
`{p}:usage`                | hash   | append         | token → its waiting events and their bytes    | remove
`{p}:pending`              | hash   | append         | path → newest acknowledged text, for reads    | remove, withdraw
                           |        | halt           | `behind`: the database is older than `stored` | resume,
                           |        |                |                                               | accept_database
                           |        | supersede      | `superseded`: another Redis is the owner      | reinstate
`{p}:stored`               | string | remove,        | arrival of the newest event that a database   | accept_database
                           |        | pass_fence     | has committed                                 | lowers it
`{p}:withdrawn`            | hash   | withdraw       | token → the clock after its last discarded    | 7 days after
                           |        |                | event left the pending view                   | the last one
`{p}:receipt:<scope>:<id>` | string | append         | this request was answered, and with what      | its lifetime
`{p}:hinted`               | string | append         | a drain was requested and has not started     | drain; 2 s
`{p}:work`                 | hash   | remove,        | the drain metrics: number, time and size of   | nobody
                           |        | reconcile      | drains (stats.py), and drifts                 |
`{p}:lock:<token>`         | string | append         | the application's lock: someone seeds its     | append; 3 s
                           |        |                | numbers                                       |
`{p}:lock`                 | string | append         | the fence's lock: someone confirms the owner  | append; 3 s
`{p}:probe`                | string | readiness      | writes are accepted                           | 1 s
`{p}:heartbeat`            | string | workers        | a worker was alive                            | 15 s
`{p}:live`                 | hash   | live           | process → when it reported last, its streams  | live; 60 s
                           |        |                | and the bytes of events that it holds         |
`{p}:mark`                 | string | scripts.py     | the name of the Redis process, if its user    | nobody
                           |        |                | may not run INFO                              |
`{p}:watch:<owner>`        | string | sweep          | since when this owner, another Redis, has     | 5 s
                           |        |                | been unconfirmed, and what was observed       |

The last five concern a whole Redis. They exist once: with the tag of the first partition that it serves.
A *path* names an entity: `token`, `token/chat` or `token/chat/message`; the empty path is the parent of applications.
"""

from __future__ import annotations

import hashlib
from binascii import crc32
from dataclasses import dataclass

#: Number of partitions. Part of the stored state: never change it while a log holds events.
PARTITIONS = 64

# Flags in the pending view, which every read and every write looks at. No paths: those begin with a token.
BEHIND = "behind"
SUPERSEDED = "superseded"


def partition_of(token: str) -> int:
    """Returns the partition (0 to 63) that holds all of an application's state."""
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
    def term(self) -> str:
        return self._key("term")

    @property
    def moving(self) -> str:
        return self._key("moving")

    @property
    def lease(self) -> str:
        return self._key("lease")

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
    def withdrawn(self) -> str:
        return self._key("withdrawn")

    @property
    def usage(self) -> str:
        return self._key("usage")

    @property
    def work(self) -> str:
        return self._key("work")

    @property
    def hinted(self) -> str:
        return self._key("hinted")

    @property
    def probe(self) -> str:
        return self._key("probe")

    @property
    def heartbeat(self) -> str:
        return self._key("heartbeat")

    @property
    def live(self) -> str:
        return self._key("live")

    @property
    def mark(self) -> str:
        return self._key("mark")

    def watch(self, owner: str) -> str:
        return self._key(f"watch:{owner}")

    def receipt(self, scope: str, request_id: str) -> str:
        """The id may be a client's own text. It is hashed, so that all keys have the same length."""
        return self._key(f"receipt:{scope}:{hashlib.sha256(request_id.encode()).hexdigest()[:32]}")

    @property
    def fence_lock(self) -> str:
        return self._key("lock")

    def application_lock(self, token: str) -> str:
        return self._key(f"lock:{token}")
