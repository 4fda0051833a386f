"""Settings: each is documented, and a wrong one is told at the start."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from django.conf import settings

from chatsystem.settings import for_kombu

READ = re.compile(r"""(?:env\.\w+|environ\.get|environ|_number)[(\[]\s*"([A-Z_]+)\"""")
#: Read by the processes of `make run` from one another.
INTERNAL = {"OWN_REDIS", "PYTHON_NAME", "PATH", "PYTHONPATH", "LAUNCHED_BY", "DJANGO_SETTINGS_MODULE"}


def test_each_variable_that_the_code_reads_is_documented_and_no_other() -> None:
    code = settings.BASE_DIR / "chatsystem"
    files = ("settings.py", "gunicorn_config.py", "logs/config.py")
    rooms = [*(code / name for name in files), *(code / "embedded").glob("*.py")]
    read = {name for file in rooms for name in READ.findall(file.read_text())} - INTERNAL

    page = (settings.BASE_DIR / "docs/operations.md").read_text()
    tables = re.findall(r"^\| variable \|.*\n(?:\|.*\n)+", page, re.MULTILINE)
    cells = [cell for table in tables for cell in re.findall(r"^\| (`.+?) \|", table, re.MULTILINE)]
    documented = {name for cell in cells for name in re.findall(r"`([A-Z_]+)`", cell)}

    assert read == documented


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("WRITE_LOG_MAX_EVENTS", "many"),
        ("WRITE_LOG_MAX_EVENTS", "1"),
        ("WRITE_LOG_MAX_BYTES", "1000000"),
        ("REDIS_TIMEOUT", "0"),
        ("DEBUG", "perhaps"),
        ("LOG_FORMAT", "xml"),
        ("SLOW_QUERY_SECONDS", "-1"),
    ],
)
def test_a_wrong_value_fails_at_the_start_and_is_named(tmp_path: Path, name: str, value: str) -> None:
    environment = {**os.environ, "DATA_DIR": str(tmp_path), name: value}
    command = [sys.executable, "manage.py", "check"]

    run = subprocess.run(command, cwd=settings.BASE_DIR, env=environment, capture_output=True, text=True, timeout=60)

    assert run.returncode != 0
    assert name in run.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("url", "kombus"),
    [
        ("unix:///run/redis.sock?db=2", "redis+socket:///run/redis.sock?virtual_host=2"),
        ("redis://:password@host:6379/1", "redis://:password@host:6379/1"),
        ("rediss://host:6379/0?ssl_ca_certs=/ca.pem", "rediss://host:6379/0?ssl_ca_certs=/ca.pem"),
    ],
)
def test_the_broker_takes_the_same_urls_as_the_state(url: str, kombus: str) -> None:
    assert for_kombu(url) == kombus
