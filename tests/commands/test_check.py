"""`manage.py check` reports wrong settings."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from django.conf import settings

GOOD = {"SECRET_KEY": "k9" * 32 + "-abcXYZ", "HTTPS_ONLY": "1", "ADMIN_API_KEY": "k9" * 16}


def check(tmp_path: Path, *options: str, **environment: str) -> subprocess.CompletedProcess:
    # An empty DATA_DIR without a running product.
    variables = {**os.environ, "DATA_DIR": str(tmp_path), **environment}
    command = [sys.executable, "manage.py", "check", *options]
    return subprocess.run(command, cwd=settings.BASE_DIR, env=variables, capture_output=True, text=True, timeout=60)


def test_it_needs_no_service(tmp_path: Path) -> None:
    assert check(tmp_path).returncode == 0


def test_a_proper_deployment_is_clean(tmp_path: Path) -> None:
    run = check(tmp_path, "--deploy", "--fail-level", "WARNING", **GOOD)

    assert run.returncode == 0, run.stderr


@pytest.mark.parametrize(
    ("options", "wrong", "id", "hint"),
    [
        (["--deploy", "--fail-level", "WARNING"], {"ADMIN_API_KEY": ""}, "chatsystem.W001", "ADMIN_API_KEY=$(python"),
        (["--deploy"], {"ADMIN_API_KEY": "k" * 31}, "chatsystem.E006", "ADMIN_API_KEY=$(python"),
        (["--deploy"], {"ADMIN_API_KEY": "k" * 32 + ",old"}, "chatsystem.E006", "ADMIN_API_KEY=$(python"),
        (["--deploy"], {"ADMIN_API_KEY": "k" * 32 + ","}, "chatsystem.E006", "ADMIN_API_KEY=$(python"),
        (["--deploy"], {"SECRET_KEY": "short"}, "chatsystem.E001", "SECRET_KEY=$(python"),
    ],
)
def test_a_wrong_setting_is_reported_with_what_to_type(
    tmp_path: Path, options: list[str], wrong: dict[str, str], id: str, hint: str
) -> None:
    run = check(tmp_path, *options, **{**GOOD, **wrong})

    assert run.returncode == 1
    assert id in run.stderr
    assert hint in run.stderr


@pytest.mark.parametrize("command", [["createsuperuser"], ["changepassword", "somebody"], ["migrate"], ["drain"]])
def test_a_command_that_misses_its_database_ends_with_one_line(command: list[str], tmp_path: Path) -> None:
    # Given a DATA_DIR that is not the product's, and no DATABASE_URL,
    nowhere = tmp_path / "nowhere"
    environment = {**os.environ, "DATA_DIR": str(nowhere), "DATABASE_URL": "", "DJANGO_SETTINGS_MODULE": "another"}

    # when a command is run there,
    run = subprocess.run(
        [sys.executable, "manage.py", *command],
        cwd=settings.BASE_DIR,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )

    # then it names the folder and creates nothing in it.
    assert run.returncode == 1
    assert "Traceback" not in run.stderr
    assert f"DATA_DIR ({nowhere})" in run.stderr.splitlines()[-1]
    assert not nowhere.exists()
