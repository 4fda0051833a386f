"""The catalogue of faults: what each one hits, how it begins and how it ends. Documented in docs/reliability.md."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from functools import partial

import MySQLdb

from tests.faults.load import Load
from tests.faults.stack import DATABASE, REDIS, ROLES, SEARCH, Stack
from tests.support.product import BASE_DIR

#: Seconds by which the wall clock jumps.
JUMP = 3600
BEAT = [sys.executable, "-m", "celery", "--app", "chatsystem.celery", "beat", "--scheduler", "celery.beat:Scheduler"]
DRAINS = f"while :; do {sys.executable} manage.py drain; done"
#: The connections between processes and servers.
PAIRS = [
    *(("web", server) for server in (REDIS, DATABASE, SEARCH)),
    *(("live", server) for server in (REDIS, DATABASE)),
    *(("worker", server) for server in (REDIS, DATABASE, SEARCH)),
    ("beat", REDIS),
]


@dataclass(frozen=True)
class Fault:
    name: str
    #: What the fault hits. No other fault may hit the same at the same time.
    targets: tuple[str, ...]
    #: A context manager: the fault lasts as long as the context.
    during: Callable[[Stack, Load], AbstractContextManager[None]]
    #: Whether the fault destroys undrained events. It then begins when everything is stored and nobody writes.
    quiet: bool = False
    #: Whether the fault kills one kind of process or pauses something.
    kill: bool = False
    still: bool = False
    #: Whether the short form skips the fault, because another one covers it.
    long_form: bool = False

    @contextmanager
    def on(self, stack: Stack, load: Load) -> Iterator[None]:
        if not self.quiet:
            with self.during(stack, load):
                yield
            return
        with load.paused():
            stack.wait_until_drained()
            with self.during(stack, load):
                yield


@contextmanager
def killed(stack: Stack, load: Load, *, names: tuple[str, ...]) -> Iterator[None]:
    stack.kill(names)
    yield
    stack.start(names)


@contextmanager
def stopped(stack: Stack, load: Load, *, name: str) -> Iterator[None]:
    stack.signal(name, signal.SIGSTOP)
    yield
    stack.signal(name, signal.SIGCONT)


@contextmanager
def silent(stack: Stack, load: Load, *, pairs: tuple[tuple[str, str], ...]) -> Iterator[None]:
    """Makes connections half-open: they stay open and carry no bytes. Old ones stay so after the fault."""
    for server in stack.proxies:
        stack.proxies[server].silence({role for role, peer in pairs if peer == server})
    yield
    for proxy in stack.proxies.values():
        proxy.resume()


@contextmanager
def reset(stack: Stack, load: Load) -> Iterator[None]:
    for proxy in stack.proxies.values():
        proxy.reset()
    yield


@contextmanager
def flushed(stack: Stack, load: Load) -> Iterator[None]:
    """Runs a command that the product's user in deploy/redis may not run, but an operator may."""
    stack.redis.client.flushall()
    yield


@contextmanager
def restored(stack: Stack, load: Load) -> Iterator[None]:
    stack.redis.kill()
    stack.restore_redis()
    yield
    stack.start([REDIS])


@contextmanager
def redis_disk_full(stack: Stack, load: Load) -> Iterator[None]:
    """Fills Redis's disk. With `appendfsync always`, Redis ends itself at the first write that it cannot store."""
    disk = stack.disk(REDIS)
    disk.fill()
    stack.redis.process.wait(timeout=60)
    yield
    disk.free()
    stack.start([REDIS])


@contextmanager
def database_disk_full(stack: Stack, load: Load) -> Iterator[None]:
    disk = stack.disk(DATABASE)
    use_up = ["INSERT INTO room.taken VALUES (REPEAT('x', 1000000))"] * 1000
    stack.database.execute("CREATE DATABASE room", "CREATE TABLE room.taken (text LONGTEXT)")
    disk.fill()
    # The server can still fill space that it has reserved.
    with suppress(MySQLdb.OperationalError):
        stack.database.execute(*use_up)
        raise AssertionError("the database found room on a full disk")
    yield
    disk.free()
    # InnoDB refuses writes without space, and ends itself when its own log has none.
    if stack.database.process.poll() is not None:
        stack.start([DATABASE])
    stack.database.execute("DROP DATABASE room")


@contextmanager
def clock_jumps(stack: Stack, load: Load, *, seconds: int) -> Iterator[None]:
    """Moves the wall clock of Redis and of the whole product."""
    stack.clock.move(seconds)
    yield
    stack.clock.move(0)


@contextmanager
def beside(stack: Stack, load: Load, *, command: list[str]) -> Iterator[None]:
    """Runs a command that does the product's work at the same time."""
    # In its own session, so that the command's children end with it.
    environ = stack.product.environ()
    with subprocess.Popen(
        command, cwd=BASE_DIR, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    ) as beside:
        yield
        os.killpg(beside.pid, signal.SIGKILL)


@contextmanager
def poison(stack: Stack, load: Load) -> Iterator[None]:
    """Stores an event that no table can hold. Its partition continues meanwhile."""
    token, _ = load.chats[0]
    command = [sys.executable, "-m", "tests.faults.poison", token]
    with subprocess.Popen(command, cwd=BASE_DIR, env=stack.product.environ(), stdin=subprocess.PIPE) as process:
        yield
        process.communicate(timeout=60)
    assert process.returncode == 0


def _catalogue() -> Iterator[Fault]:
    everything = (*ROLES, REDIS, DATABASE, SEARCH)
    for name in everything:
        yield Fault(f"{name} killed", (name,), partial(killed, names=(name,)), kill=True)
    yield Fault("everything killed", everything, partial(killed, names=everything))
    for name in everything:
        yield Fault(f"{name} stopped", (name,), partial(stopped, name=name), still=True)
    for role, server in PAIRS:
        silence = partial(silent, pairs=((role, server),))
        yield Fault(f"{role} to {server} silent", (f"to {server}",), silence, still=True, long_form=True)
    links = tuple(f"to {server}" for server in (REDIS, DATABASE, SEARCH))
    yield Fault("all connections silent", links, partial(silent, pairs=tuple(PAIRS)), still=True)
    yield Fault("all connections reset", links, reset)
    yield Fault("Redis emptied", (REDIS,), flushed, quiet=True)
    yield Fault("Redis restored from an older copy", (REDIS,), restored, quiet=True)
    yield Fault("Redis's disk full", (REDIS,), redis_disk_full)
    yield Fault("database's disk full", (DATABASE,), database_disk_full)
    yield Fault("clock an hour ahead", (), partial(clock_jumps, seconds=JUMP))
    yield Fault("clock an hour behind", (), partial(clock_jumps, seconds=-JUMP))
    yield Fault("two beats", (), partial(beside, command=BEAT))
    yield Fault("two drains beside the workers", (), partial(beside, command=["sh", "-c", f"({DRAINS}) & {DRAINS}"]))
    # The command connects to both itself, and must not be cut off.
    yield Fault("poison event", (REDIS, DATABASE, *links), poison)


FAULTS = list(_catalogue())
