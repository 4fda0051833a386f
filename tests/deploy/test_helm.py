"""The chart of deploy/helm renders to valid manifests, sets known variables, and runs what Compose runs."""

from __future__ import annotations

import re
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from chatsystem import __version__
from chatsystem.conf.environment import SECRETS
from chatsystem.server import gunicorn
from tests.deploy.known_settings import KNOWN
from tests.deploy.test_compose import SERVICES
from tests.support.harness import skip_or_fail
from tests.support.services import kubernetes
from tests.support.services.packages import Missing

#: `go install` builds helm and kubeconform, the first time.
pytestmark = [pytest.mark.nodes, pytest.mark.timeout(1800)]

ROOT = Path(__file__).resolve().parent.parent.parent
CHART = ROOT / "deploy" / "helm"
VALUES = (CHART / "values.yaml").read_text()

#: Everything that is optional, switched to the other side.
OTHERWISE = [
    *("ingress.enabled=true", "ingress.className=nginx", "serviceMonitor.enabled=true"),
    *("serviceMonitor.adminKey=ADMIN_API_KEY", "worker.autoscaling.enabled=true", "web.autoscaling.enabled=false"),
]


def needed(name: str) -> str:
    try:
        return kubernetes.program(name)
    except Missing as missing:
        skip_or_fail(missing)


@cache
def rendered(*values: str) -> str:
    options = [word for value in values for word in ("--set", value)]
    run = subprocess.run(
        [needed("helm"), "template", "release", CHART, *options], capture_output=True, text=True, check=True
    )
    return run.stdout


def manifests(*values: str) -> dict[tuple[str, str], Any]:
    """Returns the manifests by kind and component."""
    found = [manifest for manifest in yaml.safe_load_all(rendered(*values)) if manifest]
    return {
        (manifest["kind"], manifest["metadata"]["labels"]["app.kubernetes.io/component"]): manifest
        for manifest in found
    }


def container(component: str) -> Any:
    kind = "Job" if component == "migrate" else "Deployment"
    [found] = manifests()[kind, component]["spec"]["template"]["spec"]["containers"]
    return found


def test_helm_finds_nothing_wrong() -> None:
    run = subprocess.run([needed("helm"), "lint", "--strict", CHART], capture_output=True, text=True)

    assert run.returncode == 0, run.stdout


@pytest.mark.parametrize("values", [(), tuple(OTHERWISE)], ids=["defaults", "otherwise"])
@pytest.mark.parametrize("version", kubernetes.VERSIONS)
def test_the_manifests_fit_the_schemas_of_kubernetes(version: str, values: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "manifests.yaml").write_text(rendered(*values))
    try:
        schemas = kubernetes.schemas(version)
    except Missing as missing:
        skip_or_fail(missing)
    # The Prometheus operator defines ServiceMonitor, not Kubernetes.
    locations = ["-schema-location", f"{schemas}/{{{{.ResourceKind}}}}{{{{.KindSuffix}}}}.json"]

    run = subprocess.run(
        [needed("kubeconform"), "-strict", "-summary", "-skip", "ServiceMonitor", *locations, tmp_path],
        capture_output=True,
        text=True,
    )

    assert run.returncode == 0, run.stdout
    assert re.search(r"Valid: (12|14), Invalid: 0, Errors: 0", run.stdout), run.stdout


def test_the_chart_is_of_the_products_version() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())

    assert chart["appVersion"] == __version__
    assert container("web")["image"] == f"chatsystem:{__version__}"


@pytest.mark.parametrize("component", ["web", "live", "worker", "background", "beat", "migrate"])
def test_each_variable_is_one_that_the_settings_know(component: str) -> None:
    names = {variable["name"] for variable in container(component)["env"]}

    assert names - {"POD_IP"} <= KNOWN
    assert not names & set(SECRETS), "secrets come from the Secret"
    assert container(component)["envFrom"] == [{"secretRef": {"name": "chatsystem"}}]


def test_the_values_name_each_secret() -> None:
    assert set(re.findall(r"\b[A-Z_]{6,}\b", VALUES)) & set(SECRETS) == set(SECRETS)


@pytest.mark.parametrize("component", ["worker", "background", "beat", "migrate"])
def test_a_pod_runs_what_compose_runs(component: str) -> None:
    composed = SERVICES[component]["command"]
    composed = composed[composed.index("celery") :] if component == "worker" else composed

    expected = list(container(component)["command"])
    if component == "worker":
        # Compose computes the concurrency.
        at = expected.index("--concurrency")
        assert expected.pop(at + 1) == "4"
        expected.pop(at)
    assert expected == composed


def test_beat_is_one_pod_and_never_two() -> None:
    beat = manifests()["Deployment", "beat"]["spec"]

    assert beat["replicas"] == 1
    assert beat["strategy"] == {"type": "Recreate"}


def test_a_scaler_and_a_number_of_replicas_exclude_each_other() -> None:
    for values in ((), tuple(OTHERWISE)):
        found = manifests(*values)
        for component in ("web", "worker"):
            scaled = ("HorizontalPodAutoscaler", component) in found
            assert scaled != ("replicas" in found["Deployment", component]["spec"]), component


def test_workers_are_scaled_by_the_age_of_the_log() -> None:
    scaler = manifests(*OTHERWISE)["HorizontalPodAutoscaler", "worker"]["spec"]

    [metric] = scaler["metrics"]
    assert metric["external"]["metric"]["name"] == "chatsystem_log_age_seconds"
    assert "`chatsystem_log_age_seconds`" in (ROOT / "docs" / "metrics.md").read_text()


def test_a_web_pod_ends_its_requests_before_it_is_killed() -> None:
    pod = manifests()["Deployment", "web"]["spec"]["template"]["spec"]
    [_, seconds] = pod["containers"][0]["lifecycle"]["preStop"]["exec"]["command"]

    assert int(seconds) + gunicorn.graceful_timeout < pod["terminationGracePeriodSeconds"]
