"""What docker-compose.yml, the Dockerfile and .env.example promise, as far as it can be read without an engine."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from chatsystem import gunicorn_config

ROOT = Path(__file__).resolve().parent.parent.parent
COMPOSE = (ROOT / "docker-compose.yml").read_text()
DOCKERFILE = (ROOT / "Dockerfile").read_text()

SERVICES: dict[str, dict[str, Any]] = yaml.safe_load(COMPOSE)["services"]
ONE_SHOT = {"migrate"}
LONG_RUNNING = sorted(SERVICES.keys() - ONE_SHOT)

#: `${NAME:-default}`, `${NAME-default}` or `${NAME:?}`. `$$` is a container's own dollar.
VARIABLES = {
    match["name"]: (match["operator"], match["default"])
    for match in re.finditer(r"(?<!\$)\$\{(?P<name>\w+)(?P<operator>:?[-?])(?P<default>[^}]*)\}", COMPOSE)
}
#: `NAME=` is to be filled in, `#NAME=default` may be.
EXAMPLE = dict(re.findall(r"^(#?\w+)=(.*)$", (ROOT / ".env.example").read_text(), re.MULTILINE))

UNITS = {"m": 2**20, "mb": 2**20, "g": 2**30, "gb": 2**30, "s": 1}


def amount(text: str) -> int:
    """Bytes of "512m", seconds of "15s"."""
    match = re.fullmatch(r"(\d+)([a-z]+)", text)
    assert match, text
    return int(match[1]) * UNITS[match[2]]


def test_only_the_proxy_publishes_a_port() -> None:
    assert [name for name, service in SERVICES.items() if "ports" in service] == ["proxy"]
    assert not [name for name, service in SERVICES.items() if "network_mode" in service]


def test_only_the_proxy_is_on_a_network_with_a_way_out() -> None:
    networks = yaml.safe_load(COMPOSE)["networks"]
    open_ones = {name for name, network in networks.items() if not (network or {}).get("internal")}

    assert [name for name, service in SERVICES.items() if open_ones & set(service["networks"])] == ["proxy"]
    assert "back" not in SERVICES["proxy"]["networks"]


@pytest.mark.parametrize("name", LONG_RUNNING)
def test_a_service_is_looked_after(name: str) -> None:
    service = SERVICES[name]

    assert service["restart"] == "unless-stopped"
    assert amount(service["stop_grace_period"]) >= 10
    # web has the image's.
    assert service.get("healthcheck", {}).get("test") or (name == "web" and "\nHEALTHCHECK " in DOCKERFILE)


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_has_limits_and_no_rights_to_gain(name: str) -> None:
    limits = SERVICES[name]["deploy"]["resources"]["limits"]

    assert float(limits["cpus"]) <= 2
    assert amount(limits["memory"]) > 0
    assert "no-new-privileges:true" in SERVICES[name]["security_opt"]


def test_migrate_runs_once_before_whatever_uses_the_tables() -> None:
    assert SERVICES["migrate"]["restart"] == "no"
    for name in ("web", "worker", "beat"):
        assert SERVICES[name]["depends_on"]["migrate"] == {"condition": "service_completed_successfully"}


def test_web_waits_for_nothing_that_writes_can_do_without() -> None:
    assert set(SERVICES["web"]["depends_on"]) == {"migrate", "redis-state"}


def test_every_image_is_pinned() -> None:
    images = {service["image"] for service in SERVICES.values()} - {SERVICES["web"]["image"]}
    images.update(re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE))

    for image in images:
        assert re.search(r":\d", image), image


def test_every_variable_of_compose_is_in_the_example_and_no_other() -> None:
    assert {name.removeprefix("#") for name in EXAMPLE} == VARIABLES.keys()


@pytest.mark.parametrize("name", VARIABLES)
def test_a_variable_is_required_or_has_the_default_that_the_example_names(name: str) -> None:
    operator, default = VARIABLES[name]

    if operator == ":?":
        assert EXAMPLE[name] == "", "no secret in the repository, and an empty one is refused"
    else:
        assert EXAMPLE[f"#{name}"] == default


@pytest.mark.parametrize("name", VARIABLES)
def test_a_variable_is_documented(name: str) -> None:
    assert f"`{name}`" in (ROOT / "docs" / "operations.md").read_text()


def test_every_file_that_is_mounted_is_there_and_cannot_be_written() -> None:
    mounts = [mount for service in SERVICES.values() for mount in service.get("volumes", [])]
    files = [mount.split(":") for mount in mounts if mount.startswith(".")]

    assert len(files) > 5
    for source, _, mode in files:
        assert (ROOT / source).is_file(), source
        assert mode == "ro"


def test_only_folders_that_the_images_have_are_mounted_in_memory() -> None:
    """A folder that the mount makes is root's from the second start on (seen with runc 1.1)."""
    mounts = {mount.partition(":")[0] for service in SERVICES.values() for mount in service.get("tmpfs", [])}

    assert mounts == {"/tmp", "/data"}


def test_a_redis_fits_its_container_twice() -> None:
    """While the log is rewritten, what changes meanwhile is in memory twice."""
    [limit] = re.findall(r"^maxmemory (\w+)$", (ROOT / "deploy/redis/state.conf").read_text(), re.MULTILINE)

    assert 2 * amount(limit) <= amount(SERVICES["redis-state"]["deploy"]["resources"]["limits"]["memory"])


def test_gunicorn_ends_its_requests_before_it_is_killed() -> None:
    assert gunicorn_config.graceful_timeout < amount(SERVICES["web"]["stop_grace_period"])


def test_processes_get_their_signals_themselves() -> None:
    """A list, which Docker runs without a shell in between."""
    assert re.search(r'^CMD \["gunicorn", ', DOCKERFILE, re.MULTILINE)
    for name in ("worker", "beat", "migrate"):
        assert isinstance(SERVICES[name]["command"], list)


def test_the_image_holds_each_package_and_nothing_that_is_not_named() -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")} - {"bench", "tests"}

    assert "*" in lines
    named = {line.removeprefix("!") for line in lines if line.startswith("!")}
    assert named == {*packages, "manage.py", "requirements/server.lock"}
