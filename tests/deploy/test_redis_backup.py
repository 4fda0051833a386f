"""A copy of Redis's log is valid even when Redis writes and rewrites it meanwhile."""

from __future__ import annotations

import io
import subprocess
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import redis

from chatsystem.conf.data_dir import DataDir
from tests.support.harness import RealRedis
from tests.support.product import BASE_DIR, eventually

BACKUP = BASE_DIR / "deploy" / "redis" / "backup.sh"
SCRIPT = "for i = 1, 5 do redis.call('INCR', 'n' .. i) end"


@contextmanager
def running(folder: Path) -> Iterator[Any]:
    """The client of a Redis as `make run` starts it."""
    server = RealRedis(DataDir(folder))
    try:
        yield server.client
    finally:
        server.kill()


def backup(folder: Path) -> bytes:
    return subprocess.run([BACKUP, DataDir(folder).redis], check=True, capture_output=True, timeout=60).stdout


def restored(tar: bytes, folder: Path) -> dict[str, int]:
    """Returns the counters of a Redis that is started on the copy."""
    DataDir(folder).redis.mkdir(parents=True)
    subprocess.run(["tar", "-x", "-C", DataDir(folder).redis], input=tar, check=True)
    with running(folder) as client:
        return {f"n{i}": int(client.get(f"n{i}")) for i in range(1, 6)}


def test_a_copy_has_all_earlier_writes_and_only_whole_scripts(tmp_path: Path) -> None:
    # Given a Redis under constant writes that rewrites its log as often as possible,
    source = tmp_path / "source"
    with running(source) as client:
        client.set("ballast", "x" * 10_000_000)
        stop = threading.Event()
        writers = [threading.Thread(target=repeat, args=(stop, client.eval, SCRIPT, 0)) for _ in range(2)]
        rewriter = threading.Thread(target=repeat, args=(stop, rewrite, client))
        for thread in (*writers, rewriter):
            thread.start()

        # when it is copied repeatedly,
        try:
            copies = []
            for _ in range(25):
                written = eventually_written(client)
                copies.append((written, backup(source)))
        finally:
            stop.set()
            for thread in (*writers, rewriter):
                thread.join()
        assert client.info("persistence")["aof_rewrites"] > 1

    # then each copy is complete, and no temporary files are left.
    for i, (written, tar) in enumerate(copies):
        found = restored(tar, tmp_path / f"copy-{i}")
        assert len(set(found.values())) == 1
        assert found["n1"] >= written
    assert list(DataDir(source).redis.glob("backup.*")) == []


def test_a_copy_can_be_taken_while_the_manifest_is_being_replaced(tmp_path: Path) -> None:
    # Given a file that Redis renames between the listing and the copy,
    with running(tmp_path) as client:
        client.set("n", 1)
        logs = DataDir(tmp_path).redis / "appendonlydir"
        (logs / "temp-appendonly.aof.manifest").symlink_to("renamed")

        # when a copy is taken, then it is complete and has one manifest.
        with tarfile.open(fileobj=io.BytesIO(backup(tmp_path))) as tar:
            assert [name for name in tar.getnames() if name.endswith(".manifest")] == [
                "appendonlydir/appendonly.aof.manifest"
            ]


def test_a_folder_without_a_log_is_an_error(tmp_path: Path) -> None:
    run = subprocess.run([BACKUP, tmp_path], capture_output=True, timeout=60)

    assert run.returncode != 0
    assert run.stdout == b""
    assert b"manifest" in run.stderr


def eventually_written(client: Any) -> int:
    """Waits until the counters are equal and higher than before, and returns their value."""
    before = int(client.get("n1") or 0)
    eventually(lambda: int(client.get("n1") or 0) > before)
    return int(client.get("n1"))


def rewrite(client: Any) -> None:
    try:
        client.bgrewriteaof()
    except redis.ResponseError:
        return  # one is under way


def repeat(stop: threading.Event, act: Any, *arguments: Any) -> None:
    while not stop.is_set():
        act(*arguments)
