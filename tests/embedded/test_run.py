"""`make run` with real processes: it restarts killed ones, stops in order, and starts again after every crash."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.support.product import BASE_DIR, PATIENCE, Product, eventually, kill, processes

#: How to find each kind of process.
KINDS: dict[str, Callable[[Product], set[int]]] = {
    "redis": lambda product: product.pids("bin/redis-server "),
    "gunicorn": lambda product: product.mains("chatsystem.wsgi"),
    "gunicorn worker": lambda product: product.pids("chatsystem.wsgi") - product.mains("chatsystem.wsgi"),
    "live": lambda product: product.mains("live.asgi"),
    "live worker": lambda product: product.pids("live.asgi") - product.mains("live.asgi"),
    "celery": lambda product: product.mains("celery_app worker "),
    "celery pool process": lambda product: product.pids("celery_app worker ") - product.mains("celery_app worker "),
    "beat": lambda product: product.pids("celery_app beat "),
    "supervisord": lambda product: product.pids("supervisor.supervisord"),
}
COUNTS = dict.fromkeys(KINDS, 1) | {"gunicorn worker": 2, "celery": 2, "celery pool process": 2}


#: Variables of other tools. They must not change the product.
FOREIGN = {
    "APP": "another.celery",
    "BROKER_URL": "amqp://nowhere",
    "CELERY_BROKER_READ_URL": "amqp://nowhere",
    "CELERY_RESULT_BACKEND": "nothing://",
    "CELERY_WORKER_CONCURRENCY": "7",
    "DJANGO_SETTINGS_MODULE": "another.settings",
    "GUNICORN_CMD_ARGS": "--workers 5 --worker-class sync",
    "LC_ALL": "xx_YY.UTF-8",
    "PROMETHEUS_MULTIPROC_DIR": "/nowhere",
    "PYTHONOPTIMIZE": "2",
    "REDIS_PORT": "tcp://192.0.2.1:6379",
    "SCRIPT_NAME": "/another",
    "WEB_CONCURRENCY": "5",
    "http_proxy": "http://127.0.0.1:1",
}


def complete(product: Product) -> bool:
    return product.ready() and all(len(find(product)) == COUNTS[kind] for kind, find in KINDS.items())


@pytest.fixture(scope="module")
def product(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    """A product for all tests that leave it running. Its path has characters with a meaning in configurations."""
    # These modules must not shadow the installed packages.
    broken = tmp_path_factory.mktemp("broken")
    for name in ("celery", "django", "redis"):
        (broken / f"{name}.py").write_text("raise Exception('not me')\n")
    environment = {**FOREIGN, "PYTHONPATH": str(broken)}
    running = Product(tmp_path_factory.mktemp("run") / "a %(b)s ;#'c", settings=environment)
    running.start()
    try:
        eventually(lambda: complete(running))
        yield running
    finally:
        running.kill_everything()


@pytest.fixture
def other(tmp_path: Path) -> Iterator[Product]:
    """Another product, not started."""
    product = Product(tmp_path / "data")
    yield product
    product.kill_everything()


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "supervisord"])
def test_a_killed_process_is_restarted(product: Product, kind: str) -> None:
    eventually(lambda: complete(product))
    victim = min(KINDS[kind](product))

    kill(victim)

    eventually(lambda: victim not in processes(product.data_dir) and complete(product))


def test_everything_is_restarted_when_supervisord_is_killed(product: Product) -> None:
    eventually(lambda: complete(product))
    (victim,) = KINDS["supervisord"](product)

    kill(victim)

    eventually(lambda: complete(product) and victim not in processes(product.data_dir))


def test_redis_is_restarted_after_any_number_of_kills(product: Product) -> None:
    for _ in range(5):
        eventually(lambda: complete(product))
        kill(min(KINDS["redis"](product)))

    eventually(lambda: complete(product))


def test_two_products_are_independent_and_sigterm_to_make_stops_one_in_order(product: Product, other: Product) -> None:
    # Uses the environment of these tests, and installs nothing into it.
    command = ["make", "run", f"VENV={sys.prefix}", f"--old-file={sys.prefix}/.embedded"]
    make = subprocess.Popen(
        command, cwd=BASE_DIR, env=other.environ(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert make.stdout is not None
    greeting = next(line for line in make.stdout if "is ready" in line)
    assert other.url in greeting
    mine = set(processes(product.data_dir))

    make.send_signal(signal.SIGTERM)
    output, _ = make.communicate(timeout=PATIENCE)

    assert "Stopping" in output
    assert processes(other.data_dir) == {}
    assert order_of_stops(other) == ["web", "live", "beat", "background", "worker", "redis"]
    assert set(processes(product.data_dir)) == mine
    assert product.ready()


def test_a_second_product_on_the_same_data_dir_is_refused(product: Product) -> None:
    second = Product(product.data_dir)
    second.start()
    assert second.runner is not None

    output, _ = second.runner.communicate(timeout=PATIENCE)

    assert second.runner.returncode == 1
    assert "is in use by another make run" in output
    assert product.ready()


def test_it_starts_again_after_a_kill_at_any_moment(other: Product) -> None:
    # Given a run that was killed before it was ready, one that was killed afterwards,
    other.start()
    eventually(lambda: bool(KINDS["redis"](other)))
    other.kill_everything()
    other.start()
    other.wait_until_ready()
    other.kill_everything()
    # and a Redis log whose last command is incomplete,
    log = max((other.data_dir / "redis" / "appendonlydir").glob("*.incr.aof"))
    with log.open("ab") as file:
        file.write(b"*3\r\n$3\r\nSET\r\n$1")

    other.start()

    other.wait_until_ready()
    # and Ctrl-C stops it.
    assert other.stop(signal.SIGINT)[0] == 0
    assert processes(other.data_dir) == {}


def test_it_becomes_ready_with_https_only_and_another_host_name(other: Product) -> None:
    other.settings = {"HTTPS_ONLY": "true", "ALLOWED_HOSTS": "chat.example.com"}
    other.start()

    assert other.runner is not None
    assert other.runner.stdout is not None
    assert any("is ready" in line for line in other.runner.stdout)


def test_a_killed_runner_leaves_nothing_behind(other: Product) -> None:
    other.start()
    other.wait_until_ready()
    assert other.runner is not None

    other.runner.kill()

    eventually(lambda: processes(other.data_dir) == {})
    assert order_of_stops(other) == ["web", "live", "beat", "background", "worker", "redis"]


def test_one_that_lost_its_terminal_goes_on_without_words_and_ends_in_order(other: Product) -> None:
    # Given a run that ignores SIGHUP, as under nohup, and whose output nobody reads,
    inherited = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        other.start()
    finally:
        signal.signal(signal.SIGHUP, inherited)
    assert other.runner is not None
    assert other.runner.stdout is not None
    other.wait_until_ready()
    before = other.pids("chatsystem.embedded")

    # when its terminal is closed,
    os.set_blocking(other.runner.stdout.fileno(), False)
    said = b""
    with suppress(BlockingIOError):
        said = os.read(other.runner.stdout.fileno(), 1_000_000)
    other.runner.stdout.close()
    other.runner.send_signal(signal.SIGHUP)
    other.signal("supervisor.supervisord", signal.SIGKILL)

    # then it keeps running in spite of its messages,
    eventually(lambda: complete(other))
    assert other.pids("chatsystem.embedded") & before
    # and it stops as usual.
    other.runner.terminate()
    assert other.runner.wait(60) == 0
    other.runner = None
    assert processes(other.data_dir) == {}
    assert b"Traceback" not in said


def order_of_stops(product: Product) -> list[str]:
    lines = (product.data_dir / "logs" / "supervisord.log").read_text().splitlines()
    return [line.partition("stopped: ")[2].split()[0] for line in lines if "stopped: " in line]
