"""Each alert of deploy/prometheus/alerts.yml fires on its fault only, ends with it, and links to the docs."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.harness import skip_or_fail
from tests.support.services.packages import Missing
from tests.support.services.prometheus import DEPLOY, ensure_prometheus

ROOT = DEPLOY.parent.parent
RULES: dict[str, dict[str, Any]] = {
    rule["alert"]: rule
    for group in yaml.safe_load((DEPLOY / "alerts.yml").read_text())["groups"]
    for rule in group["rules"]
}

#: Series of two web hosts with the same shared values, one value a minute, for two hours.
WELL = {
    'up{job="chatsystem"}': "1x120",
    **{f'chatsystem_up{{dependency="{name}"}}': "1x120" for name in ("state", "database", "search", "workers", "live")},
    "chatsystem_log_age_seconds": "2x120",
    'chatsystem_live_delay_seconds_bucket{le="0.1"}': "0+600x120",
    'chatsystem_live_delay_seconds_bucket{le="2.5"}': "0+600x120",
    'chatsystem_live_delay_seconds_bucket{le="+Inf"}': "0+600x120",
    "chatsystem_live_refused_total": "0+6x120",
    "chatsystem_dead_events": "0x120",
    "chatsystem_halted_partitions": "0x120",
    "chatsystem_superseded": "0x120",
    "chatsystem_index_lag_seconds": "3x120",
    "chatsystem_count_drifts_total": "4x120",
    'chatsystem_request_duration_seconds_count{route="/applications/:token", method="GET", status="200"}': "0+600x120",
    'chatsystem_request_duration_seconds_count{route="/search/:query", method="GET", status="503"}': "0+600x120",
    'chatsystem_request_duration_seconds_count{route="/health/ready", method="GET", status="503"}': "0+6x120",
}
#: Ten minutes healthy, fifteen with the fault, and healthy again.
DOWN = "1x9 0x14 1x95"
LATE = "1x9 90x14 1x95"
SOME = "0x9 2x14 0x95"

UNAVAILABLE = 'chatsystem_request_duration_seconds_count{route="/applications/:token", method="POST", status="503"}'
FAILED = 'chatsystem_request_duration_seconds_count{route="/applications/:token", method="POST", status="500"}'

FAULTS = {
    "ChatsystemDown": ('up{job="chatsystem"}', DOWN),
    "ChatsystemStateRedisDown": ('chatsystem_up{dependency="state"}', DOWN),
    "ChatsystemDatabaseDown": ('chatsystem_up{dependency="database"}', DOWN),
    "ChatsystemSearchDown": ('chatsystem_up{dependency="search"}', DOWN),
    "ChatsystemWorkersSilent": ('chatsystem_up{dependency="workers"}', DOWN),
    "ChatsystemLiveSilent": ('chatsystem_up{dependency="live"}', DOWN),
    "ChatsystemLiveLate": (
        'chatsystem_live_delay_seconds_bucket{le="0.1"}',
        "0+600x4 2400x14 2400+600x101",
    ),
    "ChatsystemLiveRefused": ("chatsystem_live_refused_total", "0+6x4 24+600x14 8424+6x101"),
    "ChatsystemLogOld": ("chatsystem_log_age_seconds", LATE),
    "ChatsystemDeadEvents": ("chatsystem_dead_events", SOME),
    "ChatsystemPartitionsHalted": ("chatsystem_halted_partitions", SOME),
    "ChatsystemSuperseded": ("chatsystem_superseded", SOME),
    "ChatsystemIndexBehind": ("chatsystem_index_lag_seconds", LATE),
    "ChatsystemRequestsUnavailable": (UNAVAILABLE, "0x9 0+60x14 840x95"),
    # A series begins with its first error.
    "ChatsystemRequestsFailed": (FAILED, "_x10 1x110"),
    "ChatsystemCountDrift": ("chatsystem_count_drifts_total", "4x9 5x110"),
}


@pytest.fixture(scope="module", autouse=True)
def promtool() -> None:
    try:
        ensure_prometheus()
    except Missing as missing:
        skip_or_fail(missing)


def on_each_host(series: dict[str, str]) -> list[dict[str, str]]:
    """Returns the series in promtool's format."""
    return [
        {"series": labelled(name, host), "values": values} for name, values in series.items() for host in ("one", "two")
    ]


def labelled(name: str, host: str) -> str:
    instance = f'instance="{host}"}}'
    return f"{name[:-1]}, {instance}" if name.endswith("}") else f"{name}{{{instance}"


def check(folder: Path, series: dict[str, str], firing: dict[str, set[str]]) -> None:
    """Lets promtool compare the alerts that fire at each time with the expected ones."""
    tests = [
        {
            "expr": 'count by (alertname) (ALERTS{alertstate="firing"}) > bool 0',
            "eval_time": time,
            "exp_samples": [{"labels": f'{{alertname="{name}"}}', "value": 1} for name in sorted(names)],
        }
        for time, names in firing.items()
    ]
    case = {"interval": "1m", "input_series": on_each_host(series), "promql_expr_test": tests}
    (folder / "test.yml").write_text(
        yaml.safe_dump({"rule_files": [str(DEPLOY / "alerts.yml")], "evaluation_interval": "30s", "tests": [case]})
    )
    ran = subprocess.run(
        ["promtool", "test", "rules", folder / "test.yml"], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_no_alert_fires_while_everything_is_healthy(tmp_path: Path) -> None:
    check(tmp_path, WELL, {"30m": set(), "2h": set()})


@pytest.mark.parametrize("alarm", RULES)
def test_each_alert_fires_during_its_fault_only(tmp_path: Path, alarm: str) -> None:
    series, values = FAULTS[alarm]

    check(tmp_path, WELL | {series: values}, {"9m": set(), "15m": {alarm}, "1h30m": set()})


def test_the_alert_for_workers_does_not_fire_without_the_state_redis(tmp_path: Path) -> None:
    both = {f'chatsystem_up{{dependency="{name}"}}': DOWN for name in ("state", "workers")}

    check(tmp_path, WELL | both, {"15m": {"ChatsystemStateRedisDown"}})


@pytest.mark.parametrize("alarm", RULES)
def test_each_alert_links_to_the_docs(alarm: str) -> None:
    page, _, anchor = RULES[alarm]["annotations"]["runbook"].partition("#")

    titles = re.findall(r"^##+ (.+)$", (ROOT / page).read_text(), re.MULTILINE)
    assert anchor in {re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in titles}
    assert RULES[alarm]["labels"]["severity"] in ("critical", "warning")


def test_the_scrape_configuration_is_valid() -> None:
    ran = subprocess.run(["promtool", "check", "config", DEPLOY / "prometheus.yml"], capture_output=True, check=False)

    assert ran.returncode == 0, ran.stderr
