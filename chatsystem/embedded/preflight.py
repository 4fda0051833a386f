"""Checks everything that `make run` needs before it starts any process. A failed check is one sentence."""

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

from chatsystem import file_lock
from chatsystem.conf.data_dir import DataDir
from chatsystem.conf.startup import StartupError
from chatsystem.embedded import redis_server
from chatsystem.embedded.console import say
from chatsystem.embedded.options import Options

#: Free bytes needed to start: for the rewrite of Redis's log, SQLite's WAL and the logs of a day.
MIN_FREE = 200 * 1024 * 1024
#: Seconds for the processes of a killed runner to end in order.
LEFTOVERS_TIMEOUT = 45.0
#: Seconds for a port to become free. The kernel needs a moment to clean up a killed server.
PORT_TIMEOUT = 2.0


@contextmanager
def claimed(options: Options) -> Iterator[None]:
    """Checks everything and holds DATA_DIR during the `with` block."""
    data_dir = options.data_dir
    # The files hold messages and keys, so only this user may read them.
    os.umask(0o077)
    make_folders(data_dir)
    check_room(data_dir)
    descriptor = file_lock.take(data_dir.run / "lock")
    if descriptor is None:
        raise StartupError(
            f"DATA_DIR {data_dir.root} is in use by another make run "
            f"(process {file_lock.holder(data_dir.run / 'lock')}); stop that one or choose another DATA_DIR."
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
        # Removes the metrics of the last run, since a power cut may have left half a file.
        shutil.rmtree(data_dir.metrics, ignore_errors=True)
        for folder in (data_dir.run, data_dir.logs, data_dir.redis, data_dir.redis_socket.parent):
            folder.mkdir(mode=0o700, exist_ok=True)
            _check_ours(folder)
    except OSError as error:
        raise StartupError(f"DATA_DIR {data_dir.root} cannot be used: {error.strerror} ({error.filename}).") from None
    if not os.access(data_dir.root, os.W_OK | os.X_OK):
        raise StartupError(f"DATA_DIR {data_dir.root} cannot be used: this user may not write to it.")


def _check_ours(folder: Path) -> None:
    """Raises StartupError for a folder of another user. Anybody could have created it in the temporary folder."""
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & stat.S_IWOTH:
        raise StartupError(
            f"{folder} has to be a folder of the user who runs this, and writable by no other user; remove it."
        )


def check_room(data_dir: DataDir) -> None:
    free = shutil.disk_usage(data_dir.root).free
    if free < MIN_FREE:
        raise StartupError(
            f"The disk of DATA_DIR {data_dir.root} has {free // 2**20} MB free, "
            f"and {MIN_FREE // 2**20} MB are needed to start."
        )


def wait_for_leftovers(data_dir: DataDir) -> None:
    """Waits for the Redis of a killed runner, which is the last process that its supervisord ends.

    Two Redis servers on one folder would write into each other's log.
    """
    deadline = time.monotonic() + LEFTOVERS_TIMEOUT
    announced = False
    while (descriptor := file_lock.take(data_dir.run / "redis.lock")) is None:
        if time.monotonic() > deadline:
            holder = file_lock.holder(data_dir.run / "redis.lock")
            raise StartupError(
                f"DATA_DIR {data_dir.root} is in use by the Redis of an earlier run (process {holder}); "
                "end that process or choose another DATA_DIR."
            )
        if not announced:
            say("The last run on this DATA_DIR is still ending; waiting for it.")
            announced = True
        time.sleep(0.05)
    os.close(descriptor)


def check_port(options: Options) -> None:
    deadline = time.monotonic() + PORT_TIMEOUT
    while error := _cannot_listen(options):
        if error.errno != errno.EADDRINUSE:
            raise StartupError(f"Cannot listen on {options.netloc}: {error.strerror}; choose another BIND or PORT.")
        if time.monotonic() > deadline:
            raise StartupError(f"Port {options.port} of {options.bind} is in use; choose another PORT.")
        time.sleep(0.05)


def _cannot_listen(options: Options) -> OSError | None:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            options.bind, options.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            # Like gunicorn: connections of the last run in TIME_WAIT do not prevent a bind, but a listener does.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        return error
    return None


def keep_secret_key(path: Path) -> None:
    """Creates Django's SECRET_KEY once. The rename keeps a run that is killed half-way from leaving half a key."""
    if path.exists() and path.read_text().strip():
        return
    draft = path.with_suffix(".new")
    draft.unlink(missing_ok=True)
    with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(secrets.token_urlsafe(64) + "\n")
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
