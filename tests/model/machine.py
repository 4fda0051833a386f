"""Drives the write path with hypothesis and compares it with `Expected` after each step. See docs/reliability.md.

The product's own code runs on a real Redis and a real database. One step is one operation of a client, a worker or an
operator, or a fault. An operation may be interrupted at any boundary (boundaries.py): by the death of its process, by a
lost answer, or by whole operations of others.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from django.db import DataError, OperationalError, connection, connections
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from applications.models import Application
from applications.selectors import get_application
from applications.services import create_application, update_application
from chats.models import Chat
from chats.selectors import get_chat, list_chats
from chats.services import create_chat, update_chat
from chatsystem.writelog import dead_events, stream, tasks
from chatsystem.writelog.append import Accepted, RequestKey, Write, run_append
from chatsystem.writelog.counts import reconcile_due
from chatsystem.writelog.drain import drain
from chatsystem.writelog.events import CREATE, UPDATE, Event, depth, to_micros
from chatsystem.writelog.exceptions import LogUnavailable, OutcomeUnknown, Superseded, UnknownEntity
from chatsystem.writelog.keys import Keys, partition_of
from chatsystem.writelog.models import DeadEvent, DiscardedEvent, FeedRow, FormerTerm, Partition
from chatsystem.writelog.reads import MAX_NUMBER, Window
from chatsystem.writelog.redis_client import client
from messages_app.models import Message
from messages_app.selectors import get_message, list_messages
from messages_app.services import create_batch, create_message, update_message
from search.documents import documents_by_number
from search.models import OutboxEntry
from tests.model.boundaries import Boundaries, Boundary, Crash
from tests.model.expected import Entity, Expected, by_parent, token_of
from tests.model.reader import Reader
from tests.model.standby import Snapshot, Standby

T = TypeVar("T")

PARTITIONS = 2
APPLICATIONS = CHATS = 3

#: Text of messages that the database refuses while `World.refusing` is set.
POISON = "poison"
LOCKS = "*:lock*"
HOUR = 3_600_000_000
ALL = Window(1, MAX_NUMBER, 1000, from_low=True)


@dataclass(frozen=True)
class Interruption:
    """An interruption at boundary number `at`: a crash, a lost answer, or operations of others."""

    at: int
    what: tuple[str, ...]


@dataclass(frozen=True)
class Step:
    """The next step. `which` chooses among the existing parents, entities, requests or partitions."""

    what: str
    which: int
    #: Whether a create has a request key, and whether the text of a message is POISON.
    keyed: bool
    poison: bool
    interruption: Interruption | None


def interruptions(usual: int, longest: int, *others: str) -> st.SearchStrategy[Interruption | None]:
    """Interrupts at one of the `usual` boundaries or of the `longest` that such an operation passes."""
    at = st.integers(1, usual) | st.integers(1, longest)
    of_others = st.lists(st.sampled_from(others), min_size=1, max_size=3).map(tuple)
    what = st.sampled_from([("crash",), ("lost answer",)]) | of_others
    return st.builds(Interruption, at, what) | st.none()


SWAPS = ("restart", "rollback", "flush")
# A write is one Redis call, unless it has to seed.
WRITE = interruptions(2, 60, "append", "drain", *SWAPS)
READ = interruptions(8, 40, "drain", "restart")
FOLLOW = interruptions(8, 30, "append", "drain", *SWAPS)
DRAIN = interruptions(40, 80, "append", "append", "drain", "read", *SWAPS)
DECISION = interruptions(16, 30, "drain", "restart")
NEVER = st.none()

#: The frequency of each step, and how it is interrupted.
STEPS = {
    "create application": (1, WRITE),
    "create chat": (2, WRITE),
    "create message": (6, WRITE),
    "create batch": (3, WRITE),
    "update": (6, WRITE),
    "repeat": (2, WRITE),
    "read": (2, READ),
    "follow": (4, FOLLOW),
    "drain": (7, DRAIN),
    "take a hint": (4, DRAIN),
    "sweep": (1, DRAIN),
    "reconcile": (1, DRAIN),
    "replay": (2, DECISION),
    "discard": (1, DECISION),
    "refuse or accept": (2, NEVER),
    "back up": (2, NEVER),
    "set the clock back": (1, NEVER),
    "restart": (1, NEVER),
    "rollback": (1, NEVER),
    "flush": (1, NEVER),
}


def _of_kind(what: str) -> st.SearchStrategy[Step]:
    poison = st.sampled_from([False, False, True])
    return st.builds(Step, st.just(what), st.integers(0, 11), st.booleans(), poison, STEPS[what][1])


#: An operation that nothing interrupts.
PLAIN = Step("", 0, keyed=False, poison=False, interruption=None)
ANY_STEP = st.sampled_from([what for what, (times, _) in STEPS.items() for _ in range(times)]).flatmap(_of_kind)


@dataclass(frozen=True)
class Request:
    """A client's request. `name` is the entity to update."""

    verb: str
    parent: str
    texts: tuple[str, ...]
    name: str = ""
    key: str | None = None

    def send(self) -> Accepted:
        token, _, chat = self.parent.partition("/")
        key = RequestKey.of_client(self.key) if self.key else None
        match self.verb, depth(self.parent) if self.parent else -1:
            case "create", -1:
                return create_application(self.texts[0], key)
            case "create", 0:
                return create_chat(token, self.texts[0], key)
            case "create", _ if len(self.texts) > 1:
                return create_batch(token, int(chat), self.texts, key)
            case "create", _:
                return create_message(token, int(chat), self.texts[0], key)
            case _, -1:
                return update_application(self.name, self.texts[0])
            case _, 0:
                return update_chat(token, int(self.name), self.texts[0])
            case _:
                return update_message(token, int(chat), int(self.name), self.texts[0])

    def events(self, accepted: Accepted) -> list[Event]:
        prefix = f"{self.parent}/" if self.parent else ""
        names = [accepted.name]
        if self.verb == CREATE and self.parent:
            names = [str(accepted.number + i) for i in range(len(self.texts))]
        return [
            Event(accepted.arrival + i, self.verb, prefix + name, text)
            for i, (name, text) in enumerate(zip(names, self.texts, strict=True))
        ]


@dataclass
class Backup:
    """A state of Redis and the newest arrival of each partition in it."""

    data: Snapshot
    newest: dict[int, int]


@dataclass
class World:
    """What is shared between examples: processes, connections, figures."""

    standby: Standby
    boundaries: Boundaries = field(default_factory=Boundaries)
    #: The broker: partitions whose drain was requested.
    #: Drains that were requested and have not started.
    hints: int = 0
    refusing: bool = False
    examples: int = 0
    steps: Counter[str] = field(default_factory=Counter)
    interrupted: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        # Others run in a thread with its own connection, so they see only committed data.
        self.others = ThreadPoolExecutor(1)
        for run in (_here, self.elsewhere):
            run(lambda: connection.execute_wrappers.append(self._refuse))

    def begin(self) -> None:
        self.examples += 1
        self.ids = itertools.count()
        # A failed example may have left a transaction open.
        connection.close()
        self.standby.begin()
        self.hints = 0
        self.refusing = False
        client(0).connection_pool.disconnect()
        for model in (OutboxEntry, DeadEvent, DiscardedEvent, FeedRow, FormerTerm, Message, Chat, Application):
            model._default_manager.all().delete()
        Partition.objects.update(drained_through=0, owner="", previous="", term=0)

    def token_hex(self, length: int) -> str:
        """Replaces randomness: an example has the same tokens and request ids in each run."""
        return f"{next(self.ids):0{2 * length}x}"

    def hint(self, partition: int, hinted_at: float = 0.0) -> None:
        self.hints += 1

    def elsewhere(self, act: Callable[[], T]) -> T:
        return self.others.submit(act).result()

    def take_over(self, data: Snapshot) -> None:
        self.standby.take_over(data)
        client(0).connection_pool.disconnect()

    def _refuse(self, execute: Callable[..., Any], sql: str, params: Any, *args: Any) -> Any:
        """Refuses a value, as a column does that cannot hold it. SQLite's columns hold any value."""
        if self.refusing and "messages_app_message" in sql and any(POISON in str(param) for param in params or ()):
            raise DataError("refused")
        return execute(sql, params, *args)

    def close(self) -> None:
        self.elsewhere(connections.close_all)
        self.others.shutdown()
        connection.execute_wrappers.remove(self._refuse)

    def __str__(self) -> str:
        lines = [
            f"{self.steps.total()} steps in {self.examples} examples,",
            f"{self.boundaries.seen.total()} of them interrupted, at {len(self.boundaries.seen)} places",
            *(f"  {count:6} {name}" for name, count in self.steps.most_common()),
            "interrupted by",
            *(f"  {count:6} {name}" for name, count in self.interrupted.most_common()),
            "interrupted at",
            *(f"  {count:6} {name}" for name, count in self.boundaries.seen.most_common()),
        ]
        return "\n".join(lines)


class WritePath(RuleBasedStateMachine):
    def __init__(self, world: World) -> None:
        super().__init__()
        self.world = world
        self.world.begin()
        self.expected = Expected()
        self.backups: list[Backup] = []
        self.texts = 0
        #: Requests with a key: the answer (None without one), and how often Redis had lost data by then.
        self.keyed: dict[Request, tuple[Accepted | None, int]] = {}
        self.losses = 0
        #: Dead events that a Redis has lost: reads do not show them until they are replayed.
        self.unseen: set[int] = set()
        #: Partitions whose hint a crash may have lost: the sweep drains them.
        self.unhinted: set[int] = set()
        self.discarded: DeadEvent | None = None
        self.discards = 0
        self.readers: dict[str, Reader] = {}
        #: False during an operation, and after one that failed.
        self.intact = True
        self._begin_step()

    def teardown(self) -> None:
        """Checks that in the end everything is stored and equals the model exactly."""
        if not self.intact:
            return
        self.world.refusing = False
        tasks.sweep()
        self._take_hints()
        self._take_stock()
        self._follow()
        self._compare_shown()
        for event in DeadEvent.objects.order_by("arrival"):
            assert dead_events.replay(event), event.error
        self._take_stock()
        assert stream.lengths() == {}
        assert not DeadEvent.objects.exists()
        assert reconcile_due() == []
        entries = OutboxEntry.objects.values_list("messages", flat=True)
        told = {
            message.id for message in documents_by_number(pair for messages in entries for pair in messages).values()
        }
        assert told == set(Message.objects.values_list("pk", flat=True)), "search was not told of all messages"

    @initialize()
    def begin(self) -> None:
        for _ in range(2):
            self._write(CREATE, "")
        for token in self.expected.paths(0):
            self._write(CREATE, token)

    # A single rule: hypothesis omits half of the rules in each example, and nothing happens without writes and drains.
    @rule(step=ANY_STEP)
    def do(self, step: Step) -> None:
        applications, chats = self.expected.paths(0), self.expected.paths(1)
        partition = step.which % PARTITIONS
        match step.what:
            case "create application" if len(applications) < APPLICATIONS:
                self._write(CREATE, "", step=step)
            case "create chat" if applications and len(chats) < CHATS:
                self._write(CREATE, _of(applications, step.which), step=step)
            case "create message" if chats:
                self._write(CREATE, _of(chats, step.which), step=step)
            case "create batch" if chats:
                self._write(CREATE, _of(chats, step.which), 3, step=step)
            case "update" if shown := sorted(self.expected.entities(self._shown)):
                parent, _, name = _of(shown, step.which).rpartition("/")
                self._write(UPDATE, parent, name=name, step=step)
            case "repeat" if self.keyed:
                request = _of(list(self.keyed), step.which)
                self._operate(step, lambda: self._send(request))
            case "read":
                self._operate(step, self._compare_reads)
            case "follow":
                self._operate(step, self._follow)
                if step.interruption is None:
                    self._compare_shown()
            case "drain":
                self._operate(step, lambda: self._drain([partition] if step.which % 2 else range(PARTITIONS)))
            case "take a hint" if self.world.hints:
                # If the worker dies, the hint dies with it.
                self.world.hints = 0
                self._operate(step, lambda: tasks.drain_waiting(0))
            case "sweep":
                self._operate(step, tasks.sweep)
                if step.interruption is None:
                    self.unhinted.clear()
            case "reconcile":
                self._operate(step, self._reconcile)
            case "replay" if event := DeadEvent.objects.order_by("arrival").first():
                self._operate(step, lambda: dead_events.replay(event))
            case "discard" if event := DeadEvent.objects.filter(verb=UPDATE).order_by("-arrival").first():
                # Never a create: the numbers would have a legitimate hole. An older Redis would show the text again,
                # until the next update.
                self.backups.clear()
                self.discarded = event
                self.discards += 1
                self._operate(step, lambda: dead_events.discard(event, by="the model", reason="drawn"))
            case "refuse or accept":
                self.world.refusing = not self.world.refusing
            case "back up":
                marks, logged = _marks(), _logged()
                newest = {p: max([marks[p], *(event.arrival for event in logged[p])]) for p in marks}
                self.backups.append(Backup(self.world.standby.snapshot(), newest))
            case "set the clock back" if chats:
                self._write(CREATE, _of(chats, step.which))
                # As Redis sees it: the event arrived while the clock was an hour ahead.
                clock = Keys(partition_of(token_of(_of(chats, step.which)))).clock
                if client(0).exists(clock):
                    client(0).incrby(clock, HOUR)
            case "restart" | "rollback" | "flush":
                self._operate(step, lambda: self._do(step.what))
            case _:
                return
        self.world.steps[step.what] += 1

    def _drain(self, partitions: Sequence[int]) -> None:
        # Redis may have changed again while a process confirmed it. The next write or sweep confirms the new one.
        with suppress(Superseded):
            drain(partitions)

    def _reconcile(self) -> None:
        assert reconcile_due() == []

    # How an operation runs

    def _write(self, verb: str, parent: str, count: int = 1, name: str = "", step: Step = PLAIN) -> None:
        poison = step.poison and depth(f"{parent}/{name}") == 2
        texts = tuple(self._text(poison) for _ in range(count))
        request = Request(verb, parent, texts, name, key=texts[0] if step.keyed and verb == CREATE else None)
        self._operate(step, lambda: self._send(request))

    def _text(self, poison: bool = False) -> str:
        self.texts += 1
        return f"{self.texts} {POISON if poison else ''}"

    def _send(self, request: Request) -> None:
        self.sent |= set(request.texts)
        losses = self.losses
        try:
            accepted = request.send()
        except UnknownEntity:
            assert losses != self.losses or (request.parent or request.name) not in self.expected.events
            return
        except (LogUnavailable, OperationalError) as error:
            if not isinstance(error, OutcomeUnknown):
                # The client is told that nothing has happened, so an event that turns up was sent by nobody.
                self.sent -= set(request.texts)
            raise
        finally:
            if request.key:
                first, when = self.keyed.setdefault(request, (None, losses))
        if request.key and first and when == self.losses:
            assert (accepted.arrival, accepted.name) == (first.arrival, first.name), "another answer"
        self.keyed |= {request: (accepted, losses)} if request.key else {}
        self.answered += request.events(accepted)

    def _operate(self, step: Step, act: Callable[[], object]) -> None:
        interruption = step.interruption
        self.intact = False
        self._begin_step()
        try:
            if interruption is None:
                act()
            else:
                with self.world.boundaries.interrupted(interruption.at, lambda at: self._interrupt(interruption, at)):
                    act()
        except Crash:
            pass
        except (LogUnavailable, OperationalError):
            assert self.failing
        if self.failing:
            self.unhinted |= set(range(PARTITIONS))
            # A lock that was not released expires.
            for key in client(0).keys(LOCKS):
                client(0).delete(key)
        self._take_stock()
        self.intact = True

    def _begin_step(self) -> None:
        #: The texts that clients have sent, and the events that were acknowledged to them.
        self.sent: set[str] = set()
        self.answered: list[Event] = []
        #: Whether the operation may fail.
        self.failing = False
        #: Arrivals that the previous Redis knew, and the newest of each partition that its successor knows.
        self.swapped_from: set[int] | None = None
        self.swapped_to: dict[int, int] = {}

    def _interrupt(self, interruption: Interruption, at: Boundary) -> None:
        self.world.interrupted.update(interruption.what)
        match interruption.what:
            case ("crash",):
                self.failing = True
                self.world.boundaries.crash()
            case ("lost answer",):
                self.failing = True
                at.lose_answer()
        # A request that has to seed would wait for the lock that the operation holds.
        locked = at.in_transaction or bool(client(0).keys(LOCKS))
        for what in interruption.what:
            self.world.elsewhere(lambda: self._do(what, locked=locked))  # noqa: B023 (it is done at once)

    def _do(self, what: str, *, locked: bool = False) -> None:
        """Performs an operation of others, perhaps in the middle of ours. Skips one that has to wait for our lock."""
        match what:
            case "append":
                self._append(locked)
            case "drain" if not locked:
                # They take the hints with them. A drain of ours that holds the partitions must not rely on those.
                self._take_hints()
            case "read" if not self.answered and self.swapped_from is None:
                self._compare_reads()
            case "restart" if self.world.standby.left:
                # A request that seeds while Redis changes again is a 503.
                self.failing = True
                self.world.take_over(self.world.standby.snapshot())
            case "rollback" if self.world.standby.left and self.backups:
                self._lose(self.backups[-1], locked)
            case "flush" if self.world.standby.left:
                self._lose(Backup(Snapshot({}), dict.fromkeys(range(PARTITIONS), 0)), locked)

    def _take_hints(self) -> None:
        self.world.hints = 0
        tasks.drain_waiting(0)

    def _append(self, locked: bool) -> None:
        """Posts a message to the newest chat."""
        if not (chats := self.expected.paths(1)):
            return
        request = Request(CREATE, chats[-1], (self._text(),))
        if not locked:
            self._send(request)
            return
        write = Write(CREATE, request.parent, "", request.texts)
        token = token_of(request.parent)
        status, *answer = run_append(token, write, RequestKey(request.texts[0]), token)
        if status == "ok":
            arrival, name, hint = answer
            self.answered += request.events(Accepted(int(arrival), name, replayed=False))
            if hint == "1":
                self.world.hint(partition_of(token))

    def _lose(self, backup: Backup, locked: bool) -> None:
        waiting = {event.arrival for events in _logged().values() for event in events}
        self.swapped_from = waiting | {event.arrival for event in self.expected} | (self.swapped_from or set())
        self.swapped_to = {p: min(newest, self.swapped_to.get(p, newest)) for p, newest in backup.newest.items()}
        self.losses += 1
        self.failing = True
        # Later backups belong to a state that no longer exists.
        self.backups = self.backups[: self.backups.index(backup) + 1] if backup in self.backups else []
        self.world.take_over(backup.data)
        if not locked:
            # At once: a later event may get the arrival of a lost one.
            self.expected.keep(_kept())

    # Invariants after each step

    def _take_stock(self) -> None:
        if self.discarded:
            self._forget(self.discarded)
            self.discarded = None
        marks, logged, kept = _marks(), _logged(), _kept()
        dead = dict(DeadEvent.objects.values_list("arrival", "partition"))
        if self.swapped_from is not None:
            self.expected.keep(kept)
            self.unseen |= {
                arrival
                for arrival, partition in dead.items()
                if arrival in self.swapped_from and arrival > self.swapped_to[partition]
            }
        self.unseen &= dead.keys()
        self._acknowledge(logged)

        # Nothing acknowledged is missing. Nothing waits that nobody sent or that nobody will drain.
        for event in self.expected:
            assert kept(event), f"{event} is lost"
        known = set(self.expected)
        for partition, events in logged.items():
            waiting = [event for event in events if event.arrival > marks[partition]]
            assert known.issuperset(waiting), f"nobody sent {set(waiting) - known}"
            assert not waiting or partition in self.unhinted or self.world.hints, f"nobody will drain {partition}"
        self._compare_rows(lambda e: e.arrival <= marks[partition_of(token_of(e.path))] and e.arrival not in dead)
        self._compare_reads()

    def _forget(self, discarded: DeadEvent) -> None:
        """Discards a dead event. Reads then show the entity's newest remaining dead event, or what is stored."""
        with suppress(DeadEvent.DoesNotExist):
            # After an interruption the operator sees it in the admin and discards it again.
            dead_events.discard(discarded, by="the model", reason="drawn")
        self.expected.keep(lambda event: (event.path, event.arrival) != (discarded.path, discarded.arrival))
        left = DeadEvent.objects.filter(path=discarded.path).order_by("arrival").last()
        if left and discarded.arrival not in self.unseen:
            self.unseen.discard(left.arrival)

    def _acknowledge(self, logged: dict[int, list[Event]]) -> None:
        """Adds to the model what this step acknowledged, and what an unanswered request left in the log."""
        waiting = {event for events in logged.values() for event in events if event.text in self.sent}
        fresh = waiting.union(self.answered) - set(self.expected)
        if fresh and self.swapped_from is not None:
            # An answer that was in flight when Redis lost the write no longer counts.
            stored = {(path, row.text) for path, row in _rows()[0].items()}
            stored |= set(DeadEvent.objects.values_list("path", "text"))
            fresh = {event for event in fresh if event in waiting or (event.path, event.text) in stored}
        for event in sorted(fresh, key=lambda event: event.arrival):
            self.expected.acknowledge(event)

    def _compare_rows(self, stored: Callable[[Event], bool]) -> None:
        found, counts = _rows()
        expected = self.expected.entities(stored)
        assert found == expected, _difference(found, expected)
        children = by_parent(expected)
        assert counts == {path: len(children.get(path, ())) for path in counts}

    def _shown(self, event: Event) -> bool:
        return event.arrival not in self.unseen

    def _compare_reads(self) -> None:
        dead = set(DeadEvent.objects.values_list("arrival", flat=True)) if self.unseen else set()
        entities = self.expected.entities(lambda event: event.arrival not in self.unseen & dead)
        children = by_parent(entities)
        for path, entity in entities.items():
            if depth(path) == 0:
                assert _shown(get_application(path), "name") == entity
                assert _listed(list_chats(path, ALL).run().rows, "title") == children.get(path, [])
            elif depth(path) == 1:
                token, _, chat = path.partition("/")
                assert _listed(list_messages(token, int(chat), ALL).run().rows, "body") == children.get(path, [])
        if entities:
            self._compare_one(max(entities, key=lambda path: entities[path].arrival), entities)

    def _follow(self) -> None:
        """Lets the reader of each application read on."""
        for token in self.expected.paths(0):
            self.readers.setdefault(token, Reader(token))
        # Those of applications that Redis has lost too.
        for token, reader in self.readers.items():
            reader.follow(lambda: self.losses + self.discards, partial(self._entities_of, token))

    def _compare_shown(self) -> None:
        for token, reader in self.readers.items():
            unseen = {event.path for event in self.expected if not self._shown(event)}
            shown = {path: entity for path, entity in reader.shown.items() if path not in unseen}
            listed = self._entities_of(token)
            expected = {path: entity for path, entity in listed.items() if path not in unseen}
            assert shown == expected, f"the reader has {_difference(shown, expected)}"

    def _entities_of(self, token: str) -> dict[str, Entity]:
        """Returns what reads show of an application's chats and messages."""
        found = {}
        # Redis may have lost it in the middle of a step.
        with suppress(UnknownEntity):
            for chat in list_chats(token, ALL).run().rows:
                found[f"{token}/{chat.number}"] = _shown(chat, "title")
                for message in list_messages(token, chat.number, ALL).run().rows:
                    found[f"{token}/{chat.number}/{message.number}"] = _shown(message, "body")
        return found

    def _compare_one(self, path: str, entities: dict[str, Entity]) -> None:
        token, *numbers = path.split("/")
        match [int(number) for number in numbers]:
            case [chat]:
                assert _shown(get_chat(token, chat), "title") == entities[path]
            case [chat, number]:
                assert _shown(get_message(token, chat, number), "body") == entities[path]


def _here(act: Callable[[], T]) -> T:
    return act()


def _of(some: Sequence[Any], index: int) -> Any:
    return some[index % len(some)]


def _marks() -> dict[int, int]:
    return dict(Partition.objects.filter(pk__lt=PARTITIONS).values_list("pk", "drained_through"))


def _logged() -> dict[int, list[Event]]:
    return {partition: stream.read({partition: 1000})[partition].events for partition in range(PARTITIONS)}


def _kept() -> Callable[[Event], bool]:
    """Returns what the database or the log holds now."""
    marks, waiting = _marks(), {event for events in _logged().values() for event in events}
    return lambda event: event.arrival <= marks[partition_of(token_of(event.path))] or event in waiting


def _rows() -> tuple[dict[str, Entity], dict[str, int]]:
    """Returns what the database holds: path → row, and path → count of children."""
    times = ("created_at", "last_request_time")
    applications = Application.objects.values_list("token", *times, "name", "chats_count")
    chats = Chat.objects.values_list("application__token", "number", *times, "title", "messages_count")
    messages = Message.objects.values_list("chat__application__token", "chat__number", "number", *times, "body")
    found, counts = {}, {}
    for *path, created, changed, text, count in [*applications, *chats]:
        name = "/".join(map(str, path))
        found[name] = Entity(to_micros(created), to_micros(changed), text)
        counts[name] = count
    for *path, created, changed, text in messages:
        found["/".join(map(str, path))] = Entity(to_micros(created), to_micros(changed), text)
    return found, counts


def _shown(row: Any, text_field: str) -> Entity:
    return Entity(to_micros(row.created_at), to_micros(row.last_request_time), getattr(row, text_field))


def _listed(rows: Iterable[Any], text_field: str) -> list[tuple[int, Entity]]:
    return [(row.number, _shown(row, text_field)) for row in rows]


def _difference(found: dict[str, Entity], expected: dict[str, Entity]) -> str:
    return f"stored {found.items() - expected.items()} and not {expected.items() - found.items()}"
