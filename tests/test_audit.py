"""`make audit` fails for a vulnerability and for nothing else, and never passes for want of an answer."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from django.conf import settings

from tests.support.ports import free_port


def advisory(package: str) -> dict:
    affected = {"package": {"name": package, "ecosystem": "PyPI"}, "ranges": []}
    affected["ranges"] = [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "99.1"}]}]
    return {"id": "TEST-1", "affected": [affected], "published": "2026-01-01T00:00:00Z"}


class OSV(ThreadingHTTPServer):
    """Answers as OSV does, of one vulnerable package at most. It stands for a service that builds may not reach."""

    vulnerable: str | None = None
    knows_the_canary = True


class _Query(BaseHTTPRequestHandler):
    server: OSV

    def do_POST(self) -> None:
        query = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        name = query["package"]["name"]
        known = (name, query["version"]) == ("django", "1.0") and self.server.knows_the_canary
        answer = {"vulns": [advisory(name)]} if known or name == self.server.vulnerable else {}
        content = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def osv() -> Iterator[OSV]:
    server = OSV(("127.0.0.1", 0), _Query)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def audit(tmp_path: Path, port: int) -> subprocess.CompletedProcess:
    environ = {**os.environ, "PIP_AUDIT_OSV_URL": f"http://127.0.0.1:{port}/v1/query", "XDG_CACHE_HOME": str(tmp_path)}
    command = [sys.executable, "requirements/audit.py"]
    return subprocess.run(command, cwd=settings.BASE_DIR, env=environ, capture_output=True, text=True, timeout=120)


def test_what_is_locked_and_not_known_to_be_vulnerable_passes(osv: OSV, tmp_path: Path) -> None:
    run = audit(tmp_path, osv.server_port)

    assert run.returncode == 0, run.stderr
    assert "packages of all.lock audited: 0 known vulnerabilities." in run.stdout
    # All of what is locked for this Python, and not what pip found in some environment.
    assert int(run.stdout.split()[0]) > 40


def test_a_vulnerability_fails_and_is_named_with_what_mends_it(osv: OSV, tmp_path: Path) -> None:
    osv.vulnerable = "celery"

    run = audit(tmp_path, osv.server_port)

    assert run.returncode == 1
    assert re.search(r"^celery [\d.]+: TEST-1, fixed in 99\.1$", run.stderr, re.MULTILINE)
    assert "1 known vulnerabilities" in run.stdout


def test_a_network_that_is_not_there_is_told_and_does_not_fail(tmp_path: Path) -> None:
    run = audit(tmp_path, free_port())

    assert run.returncode == 0
    assert run.stderr.startswith("NOT AUDITED: ")
    assert "audited" not in run.stdout


def test_a_service_that_knows_of_nothing_is_not_believed(osv: OSV, tmp_path: Path) -> None:
    osv.knows_the_canary = False

    assert audit(tmp_path, osv.server_port).stderr.startswith("NOT AUDITED: ")
