"""What has to be true before anything starts. Whatever is not is refused in one sentence, and nothing was started."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import socket
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from chatsystem.data_dir import DataDir
from chatsystem.embedded import locks, redis_server
from chatsystem.embedded.options import Options
from chatsystem.embedded.refusal import Refusal

#: Bytes that have to be free to start: room for Redis to rewrite its log, SQLite's WAL and the logs of a day.
MIN_FREE = 200 * 1024 * 1024
#: Seconds that the processes of a runner which was killed are given to end in order.
LEFTOVERS_TIMEOUT = 45.0
#: Seconds that a port is given to become free: the kernel needs a moment to take a killed server apart.
PORT_TIMEOUT = 2.0


@contextmanager
def claimed(options: Options) -> Iterator[None]:
    """Checks everything and holds DATA_DIR for the time of the `with`."""
    data_dir = options.data_dir
    # What is written here are messages and keys: nobody else's to read.
    os.umask(0o077)
    make_folders(data_dir)
    check_room(data_dir)
    descriptor = locks.take(data_dir.run / "lock")
    if descriptor is None:
        raise Refusal(
            f"DATA_DIR {data_dir.root} is in use by another make run (process {locks.holder(data_dir.run / 'lock')}); "
            "stop that one or choose another DATA_DIR."
        )
    try:
        if options.own_redis:
            redis_server.find()
            wait_for_leftovers(data_dir)
        check_port(options)
        keep_secret_key(data_dir.secret_key)
        yield
    finally:
        os.close(descriptor)


def make_folders(data_dir: DataDir) -> None:
    try:
        data_dir.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Those of the last run: a power cut may have left half of a file.
        shutil.rmtree(data_dir.metrics, ignore_errors=True)
        for folder in (data_dir.run, data_dir.logs, data_dir.redis, data_dir.redis_socket.parent):
            folder.mkdir(mode=0o700, exist_ok=True)
            _check_ours(folder)
    except OSError as error:
        raise Refusal(f"DATA_DIR {data_dir.root} cannot be used: {error.strerror} ({error.filename}).") from None
    if not os.access(data_dir.root, os.W_OK | os.X_OK):
        raise Refusal(f"DATA_DIR {data_dir.root} cannot be used: this user may not write to it.")


def _check_ours(folder: Path) -> None:
    """The socket's folder may be in the temporary folder, where anybody could have made one of that name before."""
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & stat.S_IWOTH:
        raise Refusal(f"{folder} has to be a folder of the user who runs this, and nobody else's to write to.")


def check_room(data_dir: DataDir) -> None:
    free = shutil.disk_usage(data_dir.root).free
    if free < MIN_FREE:
        raise Refusal(
            f"The disk of DATA_DIR {data_dir.root} has {free // 2**20} MB free, "
            f"and {MIN_FREE // 2**20} MB are needed to start."
        )


def wait_for_leftovers(data_dir: DataDir) -> None:
    """Waits for the Redis of a runner that was killed: it is the last process that its supervisord ends.

    Two Redis on one folder would write into each other's log, so this one does not start before that one is gone.
    """
    deadline = time.monotonic() + LEFTOVERS_TIMEOUT
    told = False
    while (descriptor := locks.take(data_dir.run / "redis.lock")) is None:
        if time.monotonic() > deadline:
            holder = locks.holder(data_dir.run / "redis.lock")
            raise Refusal(
                f"DATA_DIR {data_dir.root} is in use by the Redis of an earlier run (process {holder}); "
                "end that process or choose another DATA_DIR."
            )
        if not told:
            print("The last run on this DATA_DIR is still ending; waiting for it.", flush=True)
            told = True
        time.sleep(0.05)
    os.close(descriptor)


def check_port(options: Options) -> None:
    deadline = time.monotonic() + PORT_TIMEOUT
    while error := _cannot_listen(options):
        if error.errno != errno.EADDRINUSE:
            raise Refusal(f"{options.netloc} cannot be listened on: {error.strerror}; choose another BIND or PORT.")
        if time.monotonic() > deadline:
            raise Refusal(f"Port {options.port} of {options.bind} is in use; choose another PORT.")
        time.sleep(0.05)


def _cannot_listen(options: Options) -> OSError | None:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            options.bind, options.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            # As gunicorn does: connections of the last run in TIME_WAIT are no obstacle, a listener is.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        return error
    return None


def keep_secret_key(path: Path) -> None:
    """Makes Django's SECRET_KEY once. Renamed into place: a run killed half-way leaves no half key."""
    if path.exists():
        return
    draft = path.with_suffix(".new")
    draft.unlink(missing_ok=True)
    with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(secrets.token_urlsafe(64) + "\n")
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
