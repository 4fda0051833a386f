"""Moves messages from the outbox into the index. A message leaves it after the index has it. See docs/search.md."""

from __future__ import annotations

import logging
import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from django.core.cache import cache
from django.db.models import Count, Min
from django.utils import timezone

from chatsystem.cache import with_fallback
from search.backends import get_backend
from search.backends.base import SearchUnavailable
from search.documents import CHUNK_BYTES, Document, documents_by_number, text_size
from search.models import OutboxEntry
from search.reindex import Incomplete, reindex

logger = logging.getLogger(__name__)

#: Limits of a chunk besides CHUNK_BYTES: entries, and messages (one entry may have more).
CHUNK_ENTRIES = 200
CHUNK_MESSAGES = 2_000
#: The number of messages that are read at once. Those that do not fit into the chunk were read in vain.
READ_AT_ONCE = 200

#: Cache key of the application that was indexed last.
LAST_TURN = "search:last-turn"
#: Cache key of the indexer's lease.
LEASE = "search:indexer"
#: Seconds until the lease expires. The indexer extends it every two seconds, so this is how long the outbox waits after
#: an indexer was killed.
LEASE_SECONDS = 6
#: Seconds that the circuit breaker stays open.
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


def index(seconds: float = float("inf"), *, fill: bool = True) -> bool:
    """Indexes the outbox until it is empty or `seconds` are over. Returns whether the caller should continue.

    The caller should not continue while another indexer works, or while the index is down: the sweep tries again.
    Without `fill`, a new index is left alone.
    """
    deadline = time.monotonic() + seconds
    if not OutboxEntry.objects.exists():
        return False
    with _lease() as leased:
        if not leased:
            return False
        if fill:
            _complete_index()
        elif not get_backend().is_complete():
            return False
        while _index_chunk():
            if time.monotonic() > deadline:
                return True
    return False


def complete_index() -> None:
    """Creates and fills a new index even if the outbox is empty. Until then searches miss what is stored.

    Logs the settings that only a reindex would apply: a worker calls this when it starts.
    """
    with _lease() as leased:
        if leased:
            _complete_index()
            for sentence in get_backend().unapplied_settings():
                logger.warning("%s", sentence)


def _complete_index() -> None:
    """Fills a new index from the database: the outbox lacks what was stored before the last index was lost."""
    if get_backend().is_complete():
        return
    logger.info("the index is new and is filled from the database")
    try:
        # The fill may take hours. Between its steps the outbox is indexed too.
        reindex(get_backend(), lambda messages: _index_chunk())
    except Incomplete as error:
        # Messages may have been committed meanwhile that are still in the outbox. Index those first, then try again.
        logger.warning("%s: it will be filled again", error)


def _index_chunk() -> bool:
    """Indexes one chunk: messages of the next application, then of those after it while there is room.

    Returns whether any messages were waiting. This is a round-robin: an application gets at most one chunk before all
    others get theirs, however large its backlog is. Two indexers may take the same messages. The index keeps the newer
    version, whichever comes last.
    """
    last_turn = with_fallback(lambda: int(cache.get(LAST_TURN, 0)), 0)
    entries = _oldest_entries(last_turn) or _oldest_entries(-1)
    if not entries:
        return False
    waiting = [each for entry in entries for each in _flat(entry.messages)]
    documents: list[Document] = []
    done = taken = 0
    for document in _read(waiting):
        done += 1
        if document is not None:
            documents.append(document)
            taken += text_size(document)
            if taken >= CHUNK_BYTES:
                break
    get_backend().index(documents)
    last_turn = _forget(entries, done)
    with_fallback(lambda: cache.set(LAST_TURN, last_turn, None), None)
    return True


def _oldest_entries(last_turn: int) -> list[OutboxEntry]:
    """Returns the oldest entries of the application after `last_turn`, then of those that follow."""
    entries: list[OutboxEntry] = []
    messages = 0
    in_turn = OutboxEntry.objects.filter(application__gt=last_turn).order_by("application", "pk")
    # One by one: in a backlog each entry has thousands of numbers, and most entries would be parsed in vain.
    for entry in in_turn[:CHUNK_ENTRIES].iterator(chunk_size=1):
        entries.append(entry)
        messages += sum(len(numbers) for _, numbers in entry.messages)
        if messages >= CHUNK_MESSAGES:
            break
    return entries


def _read(waiting: Sequence[tuple[int, int]]) -> Iterator[Document | None]:
    """Yields the messages of (chat id, number) pairs one by one, with None for a message that is gone."""
    for start in range(0, len(waiting), READ_AT_ONCE):
        some = waiting[start : start + READ_AT_ONCE]
        found = documents_by_number(_by_chat(some))
        yield from (found.get(each) for each in some)


def _forget(entries: Sequence[OutboxEntry], done: int) -> int:
    """Removes the first `done` messages from the entries. Returns the last application that had one of them."""
    gone = []
    last_turn = entries[0].application
    for entry in entries:
        messages = _flat(entry.messages)
        if len(messages) <= done:
            gone.append(entry.pk)
        elif done > 0:
            # This may bring back messages that another indexer has removed meanwhile. They are then indexed twice.
            OutboxEntry.objects.filter(pk=entry.pk).update(messages=_by_chat(messages[done:]))
        else:
            break
        last_turn = entry.application
        done -= len(messages)
    OutboxEntry.objects.filter(pk__in=gone).delete()
    return last_turn


def _flat(messages: Iterable[tuple[int, list[int]]]) -> list[tuple[int, int]]:
    return [(chat_id, number) for chat_id, numbers in messages for number in numbers]


def _by_chat(messages: Iterable[tuple[int, int]]) -> list[tuple[int, list[int]]]:
    numbers: dict[int, list[int]] = defaultdict(list)
    for chat_id, number in messages:
        numbers[chat_id].append(number)
    return list(numbers.items())


# The lease only avoids duplicate work. Correctness does not depend on it: while the cache is down, everybody indexes.


@contextmanager
def _lease() -> Iterator[bool]:
    """Takes the lease and yields whether it succeeded. A thread extends the lease while the caller works.

    The lease is also the circuit breaker for an index that is down: after SearchUnavailable it is held for another
    PAUSE_SECONDS, so that one indexer per second tries, and logs one line, instead of one for each drain.
    """
    if not _take_lease():
        yield False
        return
    ended = threading.Event()
    renewal = threading.Thread(target=_renew_lease, args=(ended,), daemon=True)
    renewal.start()
    pause = 0
    try:
        yield True
    except SearchUnavailable as error:
        logger.warning("the index is down, messages wait in the outbox: %s", error)
        pause = PAUSE_SECONDS
    finally:
        ended.set()
        renewal.join()
        _hold_lease(pause) if pause else release_lease()


def _renew_lease(ended: threading.Event) -> None:
    while not ended.wait(LEASE_SECONDS / 3):
        _hold_lease(LEASE_SECONDS)


def _take_lease() -> bool:
    return with_fallback(lambda: cache.add(LEASE, 1, LEASE_SECONDS) or _take_over_stretched(), True)


def _take_over_stretched() -> bool:
    """Takes over a lease with a longer time to live than any gets: the cache's clock was set back."""
    # cache.ttl is django-redis's own.
    return bool(cache.ttl(LEASE) > LEASE_SECONDS and cache.touch(LEASE, LEASE_SECONDS))  # type: ignore[attr-defined]


def _hold_lease(seconds: int) -> None:
    with_fallback(lambda: cache.touch(LEASE, seconds), True)


def release_lease() -> None:
    with_fallback(lambda: cache.delete(LEASE), True)
