"""All places where a process can be interrupted: before and after each Redis call, each statement and each commit.

They are hooks in the drivers, so that no step of the product can be forgotten. Documented in docs/reliability.md.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import pytest
import redis
from django.db import DEFAULT_DB_ALIAS, OperationalError, connection, connections
from redis.client import Pipeline
from redis.connection import AbstractConnection

from chatsystem.writelog.database_errors import CONNECTION_LOST

T = TypeVar("T")

#: Commands that the driver sends by itself to open and keep a connection.
OF_THE_DRIVER = ("AUTH", "CLIENT", "HELLO", "PING", "SELECT")


class Crash(BaseException):
    """The process is dead: nothing catches this exception, and nothing it still tries takes effect."""


@dataclass(frozen=True)
class Boundary:
    """`service` is redis or database, `call` the command or the statement's first words."""

    service: str
    side: str
    call: str

    @property
    def in_transaction(self) -> bool:
        """Returns whether the interrupted operation holds its locks. Django reports that too late and too early."""
        at_edge = (self.side, self.call) in (("after", "BEGIN"), ("before", "COMMIT"))
        return at_edge or bool(connection.in_atomic_block)

    def lose_answer(self) -> None:
        """Raises the driver's error for a connection that is lost here."""
        if self.service == "redis":
            raise redis.ConnectionError(str(self))
        if self.call == "BEGIN":
            # Django does not know about the transaction yet. Closing the connection ends it.
            connection.close()
        raise OperationalError(CONNECTION_LOST, str(self))

    def __str__(self) -> str:
        return f"{self.side} {self.call}"


class Boundaries:
    """Counts the boundaries that an operation passes and interrupts it at one of them."""

    def __init__(self) -> None:
        self.interrupt: Callable[[Boundary], None] | None = None
        self.ahead = 0
        self.dead = False
        #: How often each boundary was interrupted.
        self.seen: Counter[str] = Counter()

    @contextmanager
    def interrupted(self, at: int, interrupt: Callable[[Boundary], None]) -> Iterator[None]:
        """Calls `interrupt` at boundary number `at`, counted from 1, if the block gets that far."""
        self.ahead, self.interrupt = at, interrupt
        try:
            yield
        finally:
            self.interrupt = None
            if self.dead:
                # The connection of a dead process ends, and with it the transaction.
                self.dead = False
                connection.close()

    def crash(self) -> None:
        self.dead = True
        raise Crash

    def around(self, service: str, call: str, act: Callable[[], T]) -> T:
        self._pass(Boundary(service, "before", call))
        result = act()
        self._pass(Boundary(service, "after", call))
        return result

    def _pass(self, boundary: Boundary) -> None:
        if self.dead:
            raise Crash
        if self.interrupt is None:
            return
        self.ahead -= 1
        if self.ahead == 0:
            interrupt, self.interrupt = self.interrupt, None
            self.seen[str(boundary)] += 1
            interrupt(boundary)

    def install(self, patch: pytest.MonkeyPatch) -> None:
        """Hooks into the product's drivers, for this thread's database connection."""
        send, receive = AbstractConnection.send_command, AbstractConnection.read_response
        execute_pipeline, commit = Pipeline.execute, connection._commit

        def command(client: AbstractConnection, *args: Any, **options: Any) -> None:
            if args[0] not in OF_THE_DRIVER:
                # A script is called by its hash. The number of its keys identifies it.
                client.asked = f"{args[0]} {args[2]} keys" if args[0] == "EVALSHA" else str(args[0])  # type: ignore[attr-defined]
                self._pass(Boundary("redis", "before", client.asked))  # type: ignore[attr-defined]
            send(client, *args, **options)

        def answer(client: AbstractConnection, *args: Any, **options: Any) -> Any:
            received = receive(client, *args, **options)
            if asked := vars(client).pop("asked", None):
                self._pass(Boundary("redis", "after", asked))
            return received

        def pipeline(commands: Pipeline, *args: Any, **options: Any) -> Any:
            return self.around("redis", "pipeline", lambda: execute_pipeline(commands, *args, **options))

        def statement(execute: Callable[..., Any], sql: str, *args: Any) -> Any:
            return self.around("database", _words(sql), lambda: execute(sql, *args))

        patch.setattr(AbstractConnection, "send_command", command)
        patch.setattr(AbstractConnection, "read_response", answer)
        patch.setattr(Pipeline, "execute", pipeline)
        patch.setattr(connections[DEFAULT_DB_ALIAS], "_commit", lambda: self.around("database", "COMMIT", commit))
        patch.setattr(connections[DEFAULT_DB_ALIAS], "execute_wrappers", [*connection.execute_wrappers, statement])


def _words(sql: str) -> str:
    """Returns the verb and the table of a statement: "INSERT chats_chat"."""
    verb = sql.split(maxsplit=1)[0]
    table = re.search(r"(?:INTO|FROM|UPDATE)\s+[\"`](\w+)", sql)
    return f"{verb} {table[1]}" if table else verb
