"""The greeting of `make run`: the address, commands to type, and what is degraded."""

from __future__ import annotations

import http.server
import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from chatsystem.embedded import console, runner
from chatsystem.embedded.options import Options


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    names = ("BIND", "PORT", "ADMIN_API_KEY", "ALLOWED_HOSTS", "DEMO", "HTTPS_ONLY", "REDIS_URL", "CELERY_BROKER_URL")
    for name in names:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DATA_DIR", str(tmp_path / "data"))
    return monkeypatch


def greeting(trouble: str = "") -> str:
    return runner.greeting(Options.from_environ(), trouble)


def test_it_shows_the_address(environment: pytest.MonkeyPatch) -> None:
    assert "Listens    127.0.0.1:8000\n" in greeting()

    environment.setenv("BIND", "0.0.0.0")
    environment.setenv("PORT", "9000")

    assert "ready: http://127.0.0.1:9000\n" in greeting()
    assert "Listens    0.0.0.0:9000, every address of this machine\n" in greeting()


def test_it_leads_to_the_demo_unless_that_is_off(environment: pytest.MonkeyPatch) -> None:
    assert "  Chat       http://127.0.0.1:8000/demo shows it, live\n" in greeting()
    assert Options.from_environ().environ()["DEMO"] == "true"

    environment.setenv("DEMO", "0")

    assert "/demo" not in greeting()
    assert Options.from_environ().environ()["DEMO"] == "false"


def test_its_commands_send_the_headers_that_the_settings_require(environment: pytest.MonkeyPatch) -> None:
    assert "curl http://127.0.0.1:8000/applications" in greeting()

    environment.setenv("ADMIN_API_KEY", "the-secret-key")
    environment.setenv("ALLOWED_HOSTS", " , chat.example.com")
    environment.setenv("HTTPS_ONLY", "TRUE")

    headers = "-H \"Authorization: Bearer $ADMIN_API_KEY\" -H 'Host: chat.example.com' -H 'X-Forwarded-Proto: https'"
    assert greeting().count(f"curl {headers} ") == 2
    assert "the-secret-key" not in greeting()


def test_it_shows_what_is_degraded(environment: pytest.MonkeyPatch) -> None:
    assert "Degraded" not in greeting()
    assert "Degraded   search down: SearchUnavailable" in greeting("search down: SearchUnavailable")


class Unwell(http.server.BaseHTTPRequestHandler):
    """The readiness of a product whose workers are down."""

    states = {"state": "ok", "database": "ok", "search": "ok", "workers": "down: WorkersSilent"}

    def do_GET(self) -> None:
        content = json.dumps({"status": "degraded", "dependencies": self.states}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


@pytest.fixture
def unwell() -> Iterator[int]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Unwell) as server:
        threading.Thread(target=server.serve_forever).start()
        yield server.server_port
        server.shutdown()


def test_a_dependency_that_stays_down_is_shown_with_its_log_or_setting(
    environment: pytest.MonkeyPatch, unwell: int, capsys: pytest.CaptureFixture[str]
) -> None:
    environment.setenv("PORT", str(unwell))
    environment.setattr(runner, "SETTLE", 0.3)
    environment.setattr(runner, "FIRST_NOTE", 0.1)
    options = Options.from_environ()

    trouble = runner.Runner(options).wait_until_settled()

    assert trouble == f"workers down: WorkersSilent (look at {options.data_dir.logs}/worker.log)"
    # and the user has seen what the start waits for.
    assert f"Waiting for the rest: {trouble}." in capsys.readouterr().out

    environment.setenv("CELERY_BROKER_URL", "redis://host")
    assert "(look at CELERY_BROKER_URL)" in runner.Runner(options).wait_until_settled()


def test_output_to_a_closed_pipe_is_dropped() -> None:
    reader, writer = os.pipe()
    with os.fdopen(writer, "w") as stream:
        os.close(reader)

        console.say("one", stream)
        console.say("two", stream)
    # Closing raises nothing: the stream has no buffered text left.
    console.say("three", None)
