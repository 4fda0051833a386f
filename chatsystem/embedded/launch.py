"""`python -m chatsystem.embedded.launch PROGRAM`: ties itself to its parent, waits for its turn, becomes PROGRAM."""

from __future__ import annotations

import fcntl
import os
import signal
import sys
import time
from pathlib import Path

from chatsystem.data_dir import DataDir
from chatsystem.embedded import locks, redis_server
from chatsystem.embedded.options import BASE_DIR
from chatsystem.embedded.tied import end_with_parent

#: Seconds between two starts of one program, so that one which cannot start does not keep the machine busy.
PACE = 1.0
#: Who started this process; checked because that one may be gone before the tie holds.
PARENT = "LAUNCHED_BY"

SUPERVISORD_CONFIG = Path(__file__).with_name("supervisord.conf")


def main(program: str) -> None:
    # supervisord is asked to stop in order. Its children are not asked: without it nothing keeps their logs and order,
    # each of them survives a SIGKILL by design, and the next supervisord starts them at once.
    with_signal = signal.SIGTERM if program in ("supervisord", "migrate") else signal.SIGKILL
    end_with_parent(with_signal, parent=int(os.environ[PARENT]))
    data_dir = DataDir(Path(os.environ["DATA_DIR"]))
    if program in ("redis", "web", "worker", "beat"):
        pace(data_dir.run / f"{program}.started")
    if program == "redis":
        hold_redis_lock(data_dir)
    if program in ("web", "worker", "beat") and os.environ["OWN_REDIS"] == "true":
        wait_for_redis(data_dir)
    # Each thread's own arena would keep what its largest request took, and so would those that are left: without a
    # fixed threshold a large block, once freed, has others of its size come from an arena (mallopt(3)). The Dockerfile
    # says the same.
    os.environ.setdefault("MALLOC_ARENA_MAX", "2")
    os.environ.setdefault("MALLOC_MMAP_THRESHOLD_", "131072")
    # supervisord's configuration speaks of DATA_DIR's files, the others import and find what is in the project.
    os.chdir(data_dir.root if program == "supervisord" else BASE_DIR)
    words = command(program, data_dir)
    os.environ[PARENT] = str(os.getpid())
    os.execv(words[0], words)


def command(program: str, data_dir: DataDir) -> list[str]:
    python = [sys.executable, "-m"]
    celery = [*python, "celery", "--quiet", "--app", "chatsystem.embedded.celery_app"]
    if program == "supervisord":
        return [*python, "supervisor.supervisord", "--nodaemon", "--configuration", str(SUPERVISORD_CONFIG)]
    if program == "migrate":
        return [sys.executable, "manage.py", "migrate", "--no-input", "--verbosity", "1"]
    if program == "redis":
        return redis_server.command(data_dir)
    if program == "web":
        return [*python, "gunicorn", "--config", "python:chatsystem.embedded.gunicorn_config", "chatsystem.wsgi"]
    if program == "worker":
        # Nobody listens to what workers tell each other: there is one.
        quiet = ["--without-gossip", "--without-mingle", "--without-heartbeat"]
        return [*celery, "worker", "--pool", "prefork", "--concurrency", os.environ["WORKERS"], *quiet]
    if program == "beat":
        # In memory: the intervals are seconds, so a file of last runs would only be one more thing to break.
        return [*celery, "beat", "--scheduler", "celery.beat:Scheduler", "--pidfile", ""]
    raise SystemExit(f"There is no program {program!r}.")


def pace(stamp: Path) -> None:
    """Lets PACE pass between the last start and this one."""
    try:
        since = time.time() - stamp.stat().st_mtime
    except FileNotFoundError:
        since = PACE
    if 0 <= since < PACE:
        time.sleep(PACE - since)
    stamp.touch()


def hold_redis_lock(data_dir: DataDir) -> None:
    """Waits until no Redis writes to the folder, and passes the lock on to the Redis that this process becomes.

    Two of them would write into each other's log, and Redis itself does not check: it takes the socket over.
    """
    while (descriptor := locks.take(data_dir.run / "redis.lock")) is None:
        time.sleep(0.02)
    fcntl.fcntl(descriptor, fcntl.F_SETFD, 0)
    # What a Redis that was killed had half rewritten: as large as its log, and nobody else removes it.
    for draft in data_dir.redis.glob("temp-*"):
        draft.unlink()


def wait_for_redis(data_dir: DataDir) -> None:
    """A web process or worker without its Redis would only fill the logs; reading a long log takes a while."""
    while redis_server.ping(data_dir) != "PONG":
        time.sleep(0.05)


if __name__ == "__main__":
    main(sys.argv[1])
