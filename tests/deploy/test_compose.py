"""Checks docker-compose.yml, the Dockerfile, .env.example and the script that makes the secrets, without Docker."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

import live.gunicorn
from chatsystem import __version__
from chatsystem.conf.environment import SECRETS
from chatsystem.server import gunicorn
from live.streams import MAX_STREAMS
from live.worker import OTHER_FILES
from tests.deploy.known_settings import KNOWN

ROOT = Path(__file__).resolve().parent.parent.parent
COMPOSE = (ROOT / "docker-compose.yml").read_text()
DOCKERFILE = (ROOT / "Dockerfile").read_text()

SERVICES: dict[str, dict[str, Any]] = yaml.safe_load(COMPOSE)["services"]
ONE_SHOT = {"migrate", "secrets"}
LONG_RUNNING = sorted(SERVICES.keys() - ONE_SHOT)
#: The services of the image that is built here.
OURS = {name for name, service in SERVICES.items() if service["image"].startswith("chatsystem:")}

#: `${NAME:-default}` or `${NAME-default}`. `$$` is a literal dollar in the container.
VARIABLES = dict(re.findall(r"(?<!\$)\$\{(\w+):?-([^}]*)\}", COMPOSE))
#: `#NAME=default`.
EXAMPLE = dict(re.findall(r"^#(\w+)=(.*)$", (ROOT / ".env.example").read_text(), re.MULTILINE))

UNITS = {"m": 2**20, "mb": 2**20, "g": 2**30, "gb": 2**30, "s": 1}


def amount(text: str) -> int:
    """Returns the bytes of "512m", or the seconds of "15s"."""
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
def test_a_service_has_a_healthcheck_and_is_restarted(name: str) -> None:
    service = SERVICES[name]

    assert service["restart"] == "unless-stopped"
    assert amount(service["stop_grace_period"]) >= 10
    # web has the image's healthcheck.
    assert service.get("healthcheck", {}).get("test") or (name == "web" and "\nHEALTHCHECK " in DOCKERFILE)


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_has_limits_and_no_rights_to_gain(name: str) -> None:
    limits = SERVICES[name]["deploy"]["resources"]["limits"]

    assert float(limits["cpus"]) <= 2
    assert amount(limits["memory"]) > 0
    assert "no-new-privileges:true" in SERVICES[name]["security_opt"]


@pytest.mark.parametrize("name", sorted(OURS - ONE_SHOT))
def test_a_start_on_a_busy_machine_is_not_a_failure(name: str) -> None:
    """With 50 runnable processes on two cores, a web container took more than a minute to become healthy."""
    period = SERVICES[name].get("healthcheck", {}).get("start_period")
    [image] = re.findall(r"^HEALTHCHECK .*--start-period=(\w+)", DOCKERFILE, re.MULTILINE)

    assert amount(period or image) >= 120


def test_migrate_runs_before_the_services_that_use_the_tables() -> None:
    assert SERVICES["migrate"]["restart"] == "no"
    for name in ("web", "live", "worker", "background", "beat"):
        assert SERVICES[name]["depends_on"]["migrate"] == {"condition": "service_completed_successfully"}


@pytest.mark.parametrize("name", sorted(OURS | {"redis-state", "redis-cache"}))
def test_the_name_of_a_container_that_is_down_blocks_nobody(name: str) -> None:
    """Docker's name server forwards what it does not know, unless these options are set: 10.03 s or 0.02."""
    assert (SERVICES[name]["dns_search"], SERVICES[name]["dns_opt"]) == (["."], ["ndots:1"])


def test_web_only_waits_for_what_writes_need() -> None:
    assert set(SERVICES["web"]["depends_on"]) == {"migrate", "redis-state"}


def test_every_image_is_pinned() -> None:
    images = {service["image"] for service in SERVICES.values()} - {SERVICES["web"]["image"]}
    images.update(re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE))

    for image in images:
        assert re.search(r":\d", image), image


def test_no_variable_is_required_and_the_example_names_each_with_its_default() -> None:
    assert not re.findall(r"(?<!\$)\$\{\w+:?\?", COMPOSE)
    assert EXAMPLE == VARIABLES


def test_the_image_is_tagged_with_the_version() -> None:
    assert {"secrets", "web", "live", "worker", "background", "beat", "migrate"} == OURS
    assert {SERVICES[name]["image"] for name in OURS} == {f"chatsystem:{__version__}"}


def test_compose_builds_the_image_once_and_asks_no_registry_for_it() -> None:
    """Otherwise the first start prints an error for each service that does not build."""
    assert {SERVICES[name]["pull_policy"] for name in OURS} == {"never"}
    assert [name for name in OURS if "build" in SERVICES[name]] == ["web"]


def test_the_rolling_upgrade_replaces_each_service_of_the_image() -> None:
    page = (ROOT / "docs" / "howto" / "upgrade.md").read_text()
    [loop] = re.findall(r"^for service in (.+); do$", page, re.MULTILINE)

    assert {*loop.split(), "beat"} == OURS - ONE_SHOT


def test_elasticsearch_gets_its_settings_and_its_password(tmp_path: Path) -> None:
    """A shell such as dash drops variables whose names have a dot."""
    (tmp_path / "ELASTIC_PASSWORD").write_text("secret\n")
    shell, option, script, *rest = SERVICES["elasticsearch"]["entrypoint"]
    entrypoint = "/bin/tini -- /usr/local/bin/docker-entrypoint.sh"
    assert entrypoint in script
    script = script.replace("$$", "$").replace("/run/secrets", str(tmp_path)).replace(entrypoint, "env")
    settings = SERVICES["elasticsearch"]["environment"]

    run = subprocess.run(
        [shell, option, script, *rest], env={"PATH": os.environ["PATH"], **settings}, capture_output=True, text=True
    )

    assert {f"{name}={value}" for name, value in settings.items()} | {"ELASTIC_PASSWORD=secret"} <= set(
        run.stdout.splitlines()
    )


#: Settings that Compose does not pass through: the image or the network decides them.
DECIDED = {
    *("PORT", "BIND", "DATA_DIR", "WORKERS"),  # of `make run`, and of the proxy or the worker's command here
    *("METRICS_DIR", "STATIC_ROOT"),  # of the Dockerfile
    *("DEBUG", "SEARCH_INDEX_PATH"),  # not for production; not with Elasticsearch
    "ELASTICSEARCH_INDEX_PREFIX",  # the cluster is the product's own
    *SECRETS,
    "ADMIN_API_KEY_FILE",
}


def test_each_setting_is_passed_through_and_nothing_that_the_settings_do_not_know() -> None:
    passed = SERVICES["web"]["environment"].keys() - {"GUNICORN_CMD_ARGS"}

    assert passed - {"ADMIN_API_KEY"} == KNOWN - DECIDED


class Secrets:
    """The folder in which make.sh makes and keeps the secrets."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def make(self, **variables: str) -> subprocess.CompletedProcess[str]:
        templates = {name: value for name, value in SERVICES["secrets"]["environment"].items() if "://" in value}
        return subprocess.run(
            ["sh", ROOT / "deploy/secrets/make.sh", self.folder],
            env={"PATH": os.environ["PATH"], **templates, **variables},
            capture_output=True,
            text=True,
        )

    def kept(self) -> dict[str, str]:
        return {
            str(file.relative_to(self.folder)): file.read_text() for file in self.folder.rglob("*") if file.is_file()
        }


@pytest.fixture
def secrets(tmp_path: Path) -> Secrets:
    return Secrets(tmp_path)


def test_the_first_start_makes_random_secrets_and_later_starts_keep_them(secrets: Secrets, tmp_path: Path) -> None:
    assert secrets.make().returncode == 0
    first = secrets.kept()

    assert len({first[name] for name in first if "/" not in name}) == 5
    assert all(re.fullmatch(r"[0-9a-f]{64}\n", first[name]) for name in first if "/" not in name)
    assert secrets.make().returncode == 0
    assert secrets.kept() == first
    (tmp_path / "others").mkdir()
    others = Secrets(tmp_path / "others")
    others.make()
    assert not set(others.kept().values()) & set(first.values())


def test_each_service_gets_the_secrets_that_it_reads_and_no_others(secrets: Secrets) -> None:
    secrets.make()
    kept = secrets.kept()
    mounted = {
        mount.split(":")[1]: mount.split(":")[0]
        for mount in SERVICES["secrets"]["volumes"]
        if mount.split(":")[1].startswith("/secrets")
    }

    for name, service in SERVICES.items():
        text = str([service.get("environment"), service.get("healthcheck"), service.get("entrypoint")])
        files = [ROOT / mount.split(":")[0] for mount in service.get("volumes", []) if ".sh:" in mount]
        text += "".join(file.read_text() for file in files)
        volumes = [mount.split(":")[0] for mount in service.get("volumes", []) if mount.endswith(":/run/secrets:ro")]
        wanted = set(re.findall(r"/run/secrets/(\w+)", text))
        folders = [place.removeprefix("/secrets/") for place, volume in mounted.items() if volume in volumes]
        given = {file.partition("/")[2] for file in kept for folder in folders if file.startswith(f"{folder}/")}
        assert given == wanted, name
    # The masters are only mounted where they are made.
    assert [name for name, service in SERVICES.items() if "secrets:/secrets" in service.get("volumes", [])] == [
        "secrets"
    ]
    assert kept["app/DATABASE_URL"] == f"mysql://chatsystem:{kept['MYSQL_PASSWORD'].strip()}@mysql:3306/chatsystem\n"
    assert kept["app/REDIS_URL"] == f"redis://chatsystem:{kept['redis/REDIS_PASSWORD'].strip()}@redis-state:6379/0\n"
    assert not [value for value in kept.values() if "{" in value]


def test_only_root_reads_the_masters_and_each_container_its_copies(secrets: Secrets) -> None:
    secrets.make()

    for file in kept_files(secrets.folder):
        assert file.stat().st_mode & 0o777 == (0o600 if file.parent == secrets.folder else 0o644), file


def kept_files(folder: Path) -> list[Path]:
    return [file for file in folder.rglob("*") if file.is_file()]


def test_a_secret_in_the_environment_replaces_the_kept_one(secrets: Secrets) -> None:
    secrets.make()
    made = secrets.kept()

    assert secrets.make(REDIS_PASSWORD="ours").returncode == 0

    now = secrets.kept()
    assert now["redis/REDIS_PASSWORD"] == "ours\n"
    assert now["app/CELERY_BROKER_URL"] == "redis://chatsystem:ours@redis-cache:6379/1\n"
    assert now["app/DATABASE_URL"] == made["app/DATABASE_URL"]
    secrets.make()
    assert secrets.kept() == now


def test_a_password_that_does_not_fit_into_a_url_is_refused_and_changes_nothing(secrets: Secrets) -> None:
    secrets.make()
    made = secrets.kept()

    run = secrets.make(MYSQL_PASSWORD="a/b")

    assert run.returncode == 1
    assert run.stderr == (
        "make.sh: MYSQL_PASSWORD may contain only letters and digits, because it becomes a part of a URL.\n"
    )
    assert secrets.kept() == made


@pytest.mark.parametrize("name", VARIABLES)
def test_a_variable_is_documented(name: str) -> None:
    assert f"`{name}`" in (ROOT / "docs" / "docker.md").read_text()


def test_every_mounted_file_exists_and_is_read_only() -> None:
    mounts = [mount for service in SERVICES.values() for mount in service.get("volumes", [])]
    files = [mount.split(":") for mount in mounts if mount.startswith(".")]

    assert len(files) > 5
    for source, _, mode in files:
        assert (ROOT / source).is_file(), source
        assert mode == "ro"


def test_only_folders_that_the_images_have_are_mounted_in_memory() -> None:
    """A folder that the mount creates belongs to root from the second start on (seen with runc 1.1)."""
    mounts = {mount.partition(":")[0] for service in SERVICES.values() for mount in service.get("tmpfs", [])}

    assert mounts == {"/tmp", "/data"}


def test_a_redis_fits_into_its_container_twice() -> None:
    """During a rewrite of the log, changed data is in memory twice."""
    [limit] = re.findall(r"^maxmemory (\w+)$", (ROOT / "deploy/redis/state.conf").read_text(), re.MULTILINE)

    assert 2 * amount(limit) <= amount(SERVICES["redis-state"]["deploy"]["resources"]["limits"]["memory"])


def test_gunicorn_ends_its_requests_before_it_is_killed() -> None:
    assert gunicorn.graceful_timeout < amount(SERVICES["web"]["stop_grace_period"])
    assert live.gunicorn.graceful_timeout < amount(SERVICES["live"]["stop_grace_period"])


def test_the_live_process_and_the_proxy_have_files_for_all_streams() -> None:
    assert SERVICES["live"]["ulimits"]["nofile"] >= MAX_STREAMS + OTHER_FILES
    assert SERVICES["proxy"]["ulimits"]["nofile"] >= 2 * MAX_STREAMS


def test_processes_receive_signals_directly() -> None:
    """Docker runs a command that is a list without a shell."""
    assert re.search(r'^CMD \["gunicorn", ', DOCKERFILE, re.MULTILINE)
    for name in ("live", "worker", "background", "beat", "migrate"):
        assert isinstance(SERVICES[name]["command"], list)


@pytest.mark.parametrize(("workers", "draining"), [("5", "4"), ("2", "1"), ("1", "1")])
def test_one_worker_has_its_own_service_and_the_others_drain(workers: str, draining: str) -> None:
    # Expands the command like Compose and the shell, with a "celery" that only prints its arguments.
    words = [word.replace("${WORKERS:-5}", workers).replace("$$", "$") for word in SERVICES["worker"]["command"]]
    words[2] = words[2].replace("exec celery", "exec echo")
    given = subprocess.run(words, capture_output=True, text=True, check=True).stdout.split()

    assert given[given.index("--concurrency") + 1] == draining
    assert given[given.index("--queues") + 1] == "celery"
    background = SERVICES["background"]["command"]
    assert background[background.index("--concurrency") + 1] == "1"
    assert background[background.index("--queues") + 1] == "background"


def test_the_image_contains_exactly_the_named_files() -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")} - {"bench", "tests"}

    assert "*" in lines
    named = {line.removeprefix("!") for line in lines if line.startswith("!")}
    # The demo's page loads the client.
    assert named == {*packages, "examples/chat-client.js", "manage.py", "requirements/server.lock"}
