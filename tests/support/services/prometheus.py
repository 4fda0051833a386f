"""A real Prometheus with the project's configuration, with shorter intervals."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from functools import partial
from pathlib import Path
from typing import Any

import requests
import yaml

from chatsystem.embedded.parent_death import end_with_parent
from tests.support.ports import free_port
from tests.support.product import BASE_DIR, PATIENCE, eventually
from tests.support.services.packages import ensure

DEPLOY = BASE_DIR / "deploy" / "prometheus"
#: Replaces the longer intervals of the configuration.
PACE = "1s"


def ensure_prometheus() -> None:
    """Raises Missing when Prometheus cannot be installed."""
    ensure(["prometheus", "promtool"], "prometheus")


class Prometheus:
    """Scrapes one target every second. An alert fires as soon as its condition is true."""

    def __init__(self, folder: Path, target: str) -> None:
        ensure_prometheus()
        self.url = f"http://127.0.0.1:{free_port()}"
        self.folder = folder
        config = yaml.safe_load((DEPLOY / "prometheus.yml").read_text())
        config["global"] = {"scrape_interval": PACE, "evaluation_interval": PACE, "scrape_timeout": PACE}
        config["scrape_configs"][0]["static_configs"] = [{"targets": [target]}]
        folder.mkdir()
        (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
        rules = (DEPLOY / "alerts.yml").read_text()
        (folder / "alerts.yml").write_text(re.sub(r"^( +for): \w+$", r"\1: 0s", rules, flags=re.MULTILINE))

    def start(self) -> None:
        options = [f"--config.file={self.folder}/prometheus.yml", f"--storage.tsdb.path={self.folder}/data"]
        self.process = subprocess.Popen(
            ["prometheus", *options, f"--web.listen-address={self.url.removeprefix('http://')}", "--log.level=error"],
            preexec_fn=partial(end_with_parent, signal.SIGKILL, parent=os.getpid()),
        )
        eventually(self._answers)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def _answers(self) -> bool:
        assert self.process.poll() is None, "it ended at its start"
        try:
            return requests.get(f"{self.url}/-/ready", timeout=20).ok
        except requests.RequestException:
            return False

    def query(self, expression: str) -> list[dict[str, Any]]:
        answer = requests.get(f"{self.url}/api/v1/query", {"query": expression}, timeout=PATIENCE).json()
        assert answer["status"] == "success", answer
        found: list[dict[str, Any]] = answer["data"]["result"]
        return found

    def firing(self) -> set[str]:
        return {series["metric"]["alertname"] for series in self.query('ALERTS{alertstate="firing"}')}
