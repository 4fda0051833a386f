"""The units of deploy/systemd are valid, know the settings, and run what docker-compose.yml runs."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import live.gunicorn
from chatsystem.server import gunicorn
from live.streams import MAX_STREAMS
from live.worker import OTHER_FILES
from tests.deploy.known_settings import KNOWN
from tests.deploy.test_compose import SERVICES

ROOT = Path(__file__).resolve().parent.parent.parent
UNITS = {file.name: file.read_text() for file in sorted((ROOT / "deploy" / "systemd").iterdir())}
PROGRAMS = {name.removeprefix("chatsystem-").removesuffix(".service"): text for name, text in UNITS.items()}
del PROGRAMS["chatsystem.target"]

#: Variables of the units themselves, and of malloc.
THEIRS = {"DRAINING", "MALLOC_ARENA_MAX", "MALLOC_MMAP_THRESHOLD_"}


def values(unit: str, name: str) -> list[str]:
    return re.findall(rf"^{name}=(.*)$", unit, re.MULTILINE)


def words(unit: str) -> list[str]:
    [command] = values(unit, "ExecStart")
    return command.replace("%%", "%").split()


def test_the_units_are_valid(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze not found: it is a part of systemd")
    for name, text in UNITS.items():
        moved = text.replace("/opt/chatsystem/.venv/bin/", f"{Path(sys.executable).parent}/")
        (tmp_path / name).write_text(moved.replace("/opt/chatsystem", str(ROOT)))

    run = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *map(str, tmp_path.iterdir())], capture_output=True, text=True
    )

    # It also reports what it finds wrong in the machine's own units.
    assert run.returncode == 0, run.stderr
    assert "chatsystem" not in run.stderr


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_unit_sets_only_variables_that_the_settings_know(program: str) -> None:
    [variables] = values(PROGRAMS[program], "Environment")
    names = {word.partition("=")[0] for word in variables.split()}
    names |= set(re.findall(r"\$\{(\w+)\}", PROGRAMS[program]))

    assert names - THEIRS <= KNOWN
    assert set(re.findall(r"\$\{(\w+)\}", PROGRAMS[program])) <= {word.partition("=")[0] for word in variables.split()}


@pytest.mark.parametrize("program", ["worker", "background", "beat"])
def test_a_unit_runs_what_compose_runs(program: str) -> None:
    composed = [word for word in SERVICES[program]["command"] if not word.startswith("exec ")]
    composed = composed[composed.index("celery") :]
    ours = words(PROGRAMS[program])

    missing = set(composed) - set(" ".join(ours).replace("/opt/chatsystem/.venv/bin/", "").replace("=", " ").split())
    assert missing <= {""}, "--pidfile takes an empty value"


def test_the_target_wants_every_program_but_the_migration() -> None:
    [wanted] = values(UNITS["chatsystem.target"], "Wants")

    assert set(wanted.split()) == UNITS.keys() - {"chatsystem.target", "chatsystem-migrate.service"}
    for name in wanted.split():
        assert values(UNITS[name], "PartOf") == ["chatsystem.target"]
        assert values(UNITS[name], "Restart") == ["always"]


def test_all_units_have_the_same_rights() -> None:
    rights = {text[text.index("NoNewPrivileges") :].partition("\n\n")[0].strip() for text in PROGRAMS.values()}

    assert len(rights) == 1


def test_gunicorn_ends_its_requests_before_systemd_kills_it() -> None:
    [seconds] = values(PROGRAMS["web"], "TimeoutStopSec")

    assert gunicorn.graceful_timeout < int(seconds)
    [seconds] = values(PROGRAMS["live"], "TimeoutStopSec")
    assert live.gunicorn.graceful_timeout < int(seconds)


def test_the_live_process_may_open_a_file_for_each_stream() -> None:
    [files] = values(PROGRAMS["live"], "LimitNOFILE")

    assert int(files) >= MAX_STREAMS + OTHER_FILES
