"""Runs one program of `make run`: `python -m chatsystem.embedded.launch PROGRAM`.

It arranges to end with its parent, waits until the program may start, and then executes the program in its place.
"""

from __future__ import annotations

import fcntl
import os
import signal
import sys
import time
from pathlib import Path

from chatsystem import file_lock
from chatsystem.conf.data_dir import BASE_DIR, DataDir
from chatsystem.embedded import redis_server
from chatsystem.embedded.parent_death import end_with_parent

#: Seconds between two starts of one program, so that a program that cannot start does not keep the machine busy.
PACE = 1.0
#: Variable with the id of the parent, which may be gone before `end_with_parent` takes effect.
PARENT = "LAUNCHED_BY"

SUPERVISORD_CONFIG = Path(__file__).with_name("supervisord.conf")


def main(program: str) -> None:
    # supervisord gets SIGTERM and stops its programs in order. The programs get SIGKILL: without supervisord nothing
    # reads their logs or keeps their order. Each survives a SIGKILL by design, and the next supervisord restarts it.
    with_signal = signal.SIGTERM if program in ("supervisord", "migrate") else signal.SIGKILL
    end_with_parent(with_signal, parent=int(os.environ[PARENT]))
    data_dir = DataDir(Path(os.environ["DATA_DIR"]))
    if program in ("redis", "web", "live", "worker", "background", "beat"):
        pace(data_dir.run / f"{program}.started")
    if program == "redis":
        hold_redis_lock(data_dir)
    if program in ("web", "live", "worker", "background", "beat") and os.environ["OWN_REDIS"] == "true":
        wait_for_redis(data_dir)
    # With an arena for each thread, each would keep the memory of its largest request. A fixed threshold is needed
    # too: malloc would raise it when a large block is freed, and take the next large blocks from an arena (mallopt(3)).
    # The Dockerfile sets the same.
    os.environ.setdefault("MALLOC_ARENA_MAX", "2")
    os.environ.setdefault("MALLOC_MMAP_THRESHOLD_", "131072")
    # supervisord's configuration has paths in DATA_DIR. The other programs import from the project.
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
        return [*python, "chatsystem.embedded.prepare"]
    if program == "redis":
        return redis_server.command(data_dir)
    if program == "web":
        return [*python, "gunicorn", "--config", "python:chatsystem.embedded.gunicorn", "chatsystem.wsgi"]
    if program == "live":
        return [*python, "gunicorn", "--config", "python:live.gunicorn", "live.asgi"]
    # No component uses the messages between workers.
    worker = [*celery, "worker", "--pool", "prefork", "--without-gossip", "--without-mingle", "--without-heartbeat"]
    workers = int(os.environ["WORKERS"])
    if program == "worker" and workers == 1:
        return [*worker, "--concurrency", "1"]
    if program == "worker":
        return [*worker, "--queues", "celery", "--concurrency", str(workers - 1)]
    if program == "background":
        return [*worker, "--queues", "background", "--concurrency", "1", "--hostname", "background@%h"]
    if program == "beat":
        # Keeps the last runs in memory: the intervals are seconds, so a file would only be one more thing to break.
        return [*celery, "beat", "--scheduler", "celery.beat:Scheduler", "--pidfile", ""]
    raise SystemExit(f"There is no program {program!r}.")


def pace(stamp: Path) -> None:
    """Waits until PACE seconds have passed since the last start."""
    try:
        since = time.time() - stamp.stat().st_mtime
    except FileNotFoundError:
        since = PACE
    if 0 <= since < PACE:
        time.sleep(PACE - since)
    stamp.touch()


def hold_redis_lock(data_dir: DataDir) -> None:
    """Waits until no Redis uses the folder, and passes the lock on to the Redis that this process becomes.

    Two Redis servers would write into each other's log. Redis does not check; it takes over the socket.
    """
    while (descriptor := file_lock.take(data_dir.run / "redis.lock")) is None:
        time.sleep(0.02)
    fcntl.fcntl(descriptor, fcntl.F_SETFD, 0)
    # A killed Redis leaves its unfinished rewrite, which may be as large as its log. Nothing else removes it.
    for draft in data_dir.redis.glob("temp-*"):
        draft.unlink()


def wait_for_redis(data_dir: DataDir) -> None:
    """Waits until Redis has read its log. A web process or worker without it would only fill the logs."""
    while redis_server.ping(data_dir) != "PONG":
        time.sleep(0.05)


if __name__ == "__main__":
    main(sys.argv[1])
