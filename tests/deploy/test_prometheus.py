"""A real Prometheus scrapes a running product. Alerts follow faults, and all metrics exist that are named."""

from __future__ import annotations

import json
import re
import signal
import time
from collections.abc import Iterator

import pytest
import requests

from tests.support.harness import skip_or_fail
from tests.support.product import BASE_DIR, Product, eventually, kill
from tests.support.scrape import scrape
from tests.support.services.packages import Missing
from tests.support.services.prometheus import Prometheus
from tests.support.services.redis import Redis

DASHBOARD = json.loads((BASE_DIR / "deploy/grafana/chatsystem.json").read_text())
EXPRESSIONS = [(panel["title"], target["expr"]) for panel in DASHBOARD["panels"] for target in panel["targets"]]

#: Suffixes that a histogram adds to its name.
SUFFIXES = r"_(bucket|count|sum)$"
NAME = r"\bchatsystem_[a-z_]+\b"


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Redis]:
    """A state Redis that nothing restarts."""
    server = Redis(tmp_path_factory.mktemp("state"))
    server.start()
    yield server
    server.kill()


@pytest.fixture(scope="module")
def product(tmp_path_factory: pytest.TempPathFactory, state: Redis) -> Iterator[Product]:
    url = f"redis://127.0.0.1:{state.port}/0"
    running = Product(tmp_path_factory.mktemp("monitored"), settings={"REDIS_URL": url})
    running.start()
    running.wait_until_ready()
    yield running
    running.kill_everything()


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory, product: Product) -> Iterator[Prometheus]:
    try:
        server = Prometheus(tmp_path_factory.mktemp("prometheus") / "run", f"127.0.0.1:{product.port}")
    except Missing as missing:
        skip_or_fail(missing)
    server.start()
    yield server
    server.kill()


def write(product: Product) -> None:
    """Creates an application and chats, which a stream shows."""
    token = requests.post(f"{product.url}/applications", json={"name": "ours"}, timeout=20).json()["token"]
    application = f"{product.url}/applications/{token}"
    with requests.get(f"{application}/events", stream=True, timeout=60) as stream:
        lines = stream.iter_lines(chunk_size=1)
        # It is open.
        next(lines)
        for title in ("one", "two"):
            assert requests.post(f"{application}/chats", json={"title": title}, timeout=20).status_code == 201
        assert any(line == b"event: chat" for line in lines)


def well(product: Product, prometheus: Prometheus) -> bool:
    return product.ready() and set(product.states().values()) == {"ok"} and not prometheus.firing()


def test_the_alert_for_redis_fires_while_it_is_down(product: Product, prometheus: Prometheus, state: Redis) -> None:
    eventually(lambda: well(product, prometheus))

    state.kill()
    eventually(lambda: "ChatsystemStateRedisDown" in prometheus.firing())
    assert "ChatsystemWorkersSilent" not in prometheus.firing()

    state.start()
    eventually(lambda: "ChatsystemStateRedisDown" not in prometheus.firing())


def test_the_alert_for_workers_fires_while_they_are_down(product: Product, prometheus: Prometheus) -> None:
    eventually(lambda: product.ready() and "ChatsystemWorkersSilent" not in prometheus.firing())

    # Nothing restarts them meanwhile.
    product.signal("supervisor.supervisord", signal.SIGSTOP)
    for pid in product.pids("celery_app worker "):
        kill(pid)
    eventually(lambda: "ChatsystemWorkersSilent" in prometheus.firing())

    product.signal("supervisor.supervisord", signal.SIGCONT)
    eventually(lambda: "ChatsystemWorkersSilent" not in prometheus.firing())


def test_the_alert_for_web_fires_while_it_is_down(product: Product, prometheus: Prometheus) -> None:
    eventually(lambda: product.ready() and "ChatsystemDown" not in prometheus.firing())

    product.signal("supervisor.supervisord", signal.SIGSTOP)
    for pid in product.pids("chatsystem.wsgi"):
        kill(pid)
    eventually(lambda: "ChatsystemDown" in prometheus.firing())

    product.signal("supervisor.supervisord", signal.SIGCONT)
    eventually(lambda: "ChatsystemDown" not in prometheus.firing())


def test_each_expression_of_the_dashboard_has_a_result(product: Product, prometheus: Prometheus) -> None:
    wanting = dict(EXPRESSIONS)

    def asked() -> dict[str, str]:
        """Returns the expressions without a result."""
        write(product)
        expressions = [(title, text.replace("$__rate_interval", "20s")) for title, text in EXPRESSIONS]
        return {title: text for title, text in expressions if not answered(text)}

    def answered(expression: str) -> bool:
        return any(series["value"][1] != "NaN" for series in prometheus.query(expression))

    deadline = time.monotonic() + 60
    while wanting and time.monotonic() < deadline:
        wanting = asked()
        time.sleep(1)
    assert wanting == {}


def named(*files: str) -> set[str]:
    texts = [(BASE_DIR / file).read_text() for file in files]
    return {re.sub(SUFFIXES, "", name) for text in texts for name in re.findall(NAME, text)}


def test_the_named_metrics_are_the_existing_ones(product: Product) -> None:
    write(product)
    exported = set(re.findall(r"^# TYPE (\S+) ", scrape(product), re.MULTILINE))

    assert named("docs/metrics.md") == exported
    assert named("deploy/grafana/chatsystem.json") == exported
    assert named("deploy/prometheus/alerts.yml") | named("docs/runbook.md") <= exported


def test_the_dashboard_has_a_variable_data_source_and_no_overlapping_panels() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        assert panel["datasource"]["uid"] == "${DS_PROMETHEUS}"
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells
    assert DASHBOARD["__inputs"][0]["name"] == "DS_PROMETHEUS"
