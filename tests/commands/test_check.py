"""`manage.py check` tells at the start what is wrong with the settings."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from django.conf import settings

GOOD = {"SECRET_KEY": "k9" * 32 + "-abcXYZ", "HTTPS_ONLY": "1", "ADMIN_API_KEY": "k9" * 16}


def check(tmp_path: Path, *options: str, **environment: str) -> subprocess.CompletedProcess:
    # A DATA_DIR where nothing runs and nothing is stored.
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
        ([], {"REDIS_URL": "http://:secret@host/0"}, "chatsystem.E003", "REDIS_URL=redis://"),
        ([], {"REDIS_URL": "redis:6379"}, "chatsystem.E003", "REDIS_URL=redis://"),
    ],
)
def test_a_wrong_setting_is_named_with_what_to_type(
    tmp_path: Path, options: list[str], wrong: dict[str, str], id: str, hint: str
) -> None:
    run = check(tmp_path, *options, **{**GOOD, **wrong})

    assert run.returncode == 1
    assert id in run.stderr
    assert hint in run.stderr
    assert "secret@" not in run.stderr


def test_an_engine_that_the_locks_are_not_made_for_is_refused() -> None:
    from chatsystem.checks import database_is_known

    given = settings.DATABASES["default"]["ENGINE"]
    settings.DATABASES["default"]["ENGINE"] = "django.db.backends.postgresql"
    try:
        [error] = database_is_known()
    finally:
        settings.DATABASES["default"]["ENGINE"] = given
    assert error.id == "chatsystem.E002"
    assert "DATABASE_URL=mysql://" in error.hint
    assert database_is_known() == []
