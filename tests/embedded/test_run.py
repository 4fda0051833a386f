"""`make run` with real processes: the killed come back, all ends in order, and every crash can be started over."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.embedded.product import BASE_DIR, Product, eventually, kill, processes

#: Seconds in which a killed process is back.
BACK = 5.0

#: How to find each kind of process.
KINDS: dict[str, Callable[[Product], set[int]]] = {
    "redis": lambda product: product.pids("bin/redis-server "),
    "gunicorn": lambda product: product.mains(" gunicorn "),
    "gunicorn worker": lambda product: product.pids(" gunicorn ") - product.mains(" gunicorn "),
    "celery": lambda product: product.mains("celery_app worker "),
    "celery pool process": lambda product: product.pids("celery_app worker ") - product.mains("celery_app worker "),
    "beat": lambda product: product.pids("celery_app beat "),
    "supervisord": lambda product: product.pids("supervisor.supervisord"),
}
COUNTS = dict.fromkeys(KINDS, 1) | {"gunicorn worker": 2, "celery pool process": 2}


class Started(Product):
    """A product, and how long its start took."""

    #: Seconds.
    took: float


def complete(product: Product) -> bool:
    return product.ready() and all(len(find(product)) == COUNTS[kind] for kind, find in KINDS.items())


@pytest.fixture(scope="module")
def product(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Started]:
    """One that runs for all tests which leave it running. Its path holds what means something in configurations."""
    running = Started(tmp_path_factory.mktemp("run") / "a %(b)s ;#'c")
    running.start()
    running.took = eventually(lambda: complete(running))
    yield running
    running.kill_everything()


@pytest.fixture
def other(tmp_path: Path) -> Iterator[Product]:
    """One more, not started."""
    product = Product(tmp_path / "data")
    yield product
    product.kill_everything()


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "supervisord"])
def test_a_killed_process_is_back_within_5_seconds(product: Product, kind: str) -> None:
    eventually(lambda: complete(product))
    victim = min(KINDS[kind](product))

    kill(victim)

    eventually(lambda: victim not in processes(product.data_dir) and complete(product), within=BACK)


def test_all_of_it_is_back_sooner_than_it_had_started_when_supervisord_is_killed(product: Started) -> None:
    eventually(lambda: complete(product))
    (victim,) = KINDS["supervisord"](product)

    kill(victim)

    # Readiness first: to look through all processes takes time that those which start would have.
    eventually(lambda: complete(product) and victim not in processes(product.data_dir), within=product.took)


def test_redis_can_be_killed_more_often_than_supervisors_usually_allow(product: Product) -> None:
    for _ in range(5):
        eventually(lambda: complete(product))
        kill(min(KINDS["redis"](product)))

    eventually(lambda: complete(product), within=BACK)


def test_two_side_by_side_do_not_touch_each_other_and_sigterm_to_make_ends_one_in_order(
    product: Product, other: Product
) -> None:
    if not (BASE_DIR / ".venv" / "bin" / "python").exists():
        pytest.skip("make would install a .venv here.")
    make = subprocess.Popen(
        ["make", "run"], cwd=BASE_DIR, env=other.environ(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert make.stdout is not None
    greeting = next(line for line in make.stdout if "is ready" in line)
    assert other.url in greeting
    mine = set(processes(product.data_dir))

    make.send_signal(signal.SIGTERM)
    output, _ = make.communicate(timeout=40)

    assert "Stopping" in output
    assert processes(other.data_dir) == {}
    assert order_of_stops(other) == ["web", "beat", "worker", "redis"]
    assert set(processes(product.data_dir)) == mine
    assert product.ready()


def test_a_second_one_on_the_same_data_dir_is_refused_and_the_first_goes_on(product: Product) -> None:
    second = Product(product.data_dir)
    second.start()
    assert second.runner is not None

    output, _ = second.runner.communicate(timeout=30)

    assert second.runner.returncode == 1
    assert "is in use by another make run" in output
    assert product.ready()


def test_everything_killed_at_any_moment_can_be_started_again_at_once(other: Product) -> None:
    # Given a run that was killed before it was ready, and one that was killed after
    other.start()
    eventually(lambda: bool(KINDS["redis"](other)))
    other.kill_everything()
    other.start()
    other.wait_until_ready()
    other.kill_everything()
    # and a Redis log whose last command is cut off
    log = max((other.data_dir / "redis" / "appendonlydir").glob("*.incr.aof"))
    with log.open("ab") as file:
        file.write(b"*3\r\n$3\r\nSET\r\n$1")

    other.start()

    other.wait_until_ready()
    # and Ctrl-C ends it
    assert other.stop(signal.SIGINT)[0] == 0
    assert processes(other.data_dir) == {}


def test_one_that_is_served_by_https_under_another_name_is_ready(other: Product) -> None:
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
    assert order_of_stops(other) == ["web", "beat", "worker", "redis"]


def order_of_stops(product: Product) -> list[str]:
    lines = (product.data_dir / "logs" / "supervisord.log").read_text().splitlines()
    return [line.partition("stopped: ")[2].split()[0] for line in lines if "stopped: " in line]
