"""The outbox: messages leave it for the index, and only once the index has them. Documented in docs/search.md."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass

from django.core.cache import cache
from django.db.models import Count, Min
from django.utils import timezone

from chatsystem.cache import asked
from search.backends import get_backend
from search.backends.base import SearchUnavailable
from search.documents import of_numbers
from search.models import OutboxEntry
from search.reindexing import Incomplete, reindex

logger = logging.getLogger(__name__)

#: What is indexed at once: entries, and messages (a single entry may hold more).
CHUNK_ENTRIES = 200
CHUNK_MESSAGES = 2_000

LEASE = "search:indexer"
#: Seconds that an indexer is believed to be at work without a sign of it: so long the outbox waits for a killed one.
LEASE_SECONDS = 6
#: Seconds for which nobody tries again after the index was found away.
PAUSE_SECONDS = 1


@dataclass(frozen=True, slots=True)
class Lag:
    """How far the index is behind the database."""

    entries: int
    #: Age of the oldest entry.
    seconds: float

    def __str__(self) -> str:
        return f"{self.entries:,} outbox entries wait for the index, the oldest for {self.seconds:.1f} s"


def lag() -> Lag:
    found = OutboxEntry.objects.aggregate(entries=Count("pk"), oldest=Min("created_at"))
    waited = (timezone.now() - found["oldest"]).total_seconds() if found["oldest"] else 0.0
    return Lag(found["entries"], max(waited, 0.0))


def index(seconds: float = float("inf")) -> bool:
    """Indexes what waits, until nothing does or `seconds` are over; returns whether anything is left to do.

    Nothing is left to do either when another indexer is at it, or when the index is away: the sweep comes again.
    """
    deadline = time.monotonic() + seconds
    if not OutboxEntry.objects.exists():
        return False
    if not _take_lease():
        return False
    pause = 0
    try:
        _complete_index()
        while _index_chunk():
            if time.monotonic() > deadline:
                return True
            _hold_lease(LEASE_SECONDS)
    except SearchUnavailable as error:
        logger.warning("the index is away, messages wait in the outbox: %s", error)
        # Until then nobody tries again, or every drain's hint would.
        pause = PAUSE_SECONDS
    finally:
        _hold_lease(pause) if pause else give_lease_back()
    return False


def _complete_index() -> None:
    """Fills an index that is new: the outbox alone would leave out what was stored before the last one was lost."""
    if get_backend().is_complete():
        return
    logger.info("the index is new and is filled from the database")
    try:
        reindex(get_backend(), lambda messages: _hold_lease(LEASE_SECONDS))
    except Incomplete as error:
        # Messages may have been committed meanwhile that the outbox still holds: first those, then another try.
        logger.warning("%s: it will be filled again", error)


def _index_chunk() -> bool:
    """Indexes the oldest entries and forgets them; returns whether there were any.

    Two indexers may take the same ones: the index keeps the newer version whoever comes last.
    """
    entries: list[OutboxEntry] = []
    messages = 0
    # One by one: a backlog's entries hold thousands of numbers each, and most of them would be parsed in vain.
    for entry in OutboxEntry.objects.order_by("pk")[:CHUNK_ENTRIES].iterator(chunk_size=1):
        entries.append(entry)
        messages += sum(len(numbers) for _, numbers in entry.messages)
        if messages >= CHUNK_MESSAGES:
            break
    if not entries:
        return False
    get_backend().index(list(of_numbers(pair for entry in entries for pair in entry.messages)))
    OutboxEntry.objects.filter(pk__in=[entry.pk for entry in entries]).delete()
    return True


# The lease saves double work and is nothing that correctness rests on: without a cache, everybody may index.


def _take_lease() -> bool:
    return asked(lambda: cache.add(LEASE, 1, LEASE_SECONDS) or _is_stretched(), True)


def _is_stretched() -> bool:
    """Whether the lease has longer to run than any was given: the cache's clock was set back. Taken over, if so."""
    # django-redis's own.
    return bool(cache.ttl(LEASE) > LEASE_SECONDS and cache.touch(LEASE, LEASE_SECONDS))  # type: ignore[attr-defined]


def _hold_lease(seconds: int) -> None:
    asked(lambda: cache.touch(LEASE, seconds), True)


def give_lease_back() -> None:
    asked(lambda: cache.delete(LEASE), True)
