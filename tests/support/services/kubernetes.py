"""Helm, kubeconform and the schemas of Kubernetes, for the chart of deploy/helm.

Neither program is a Debian package. `go install` builds both from the Go module proxy: a minute once, then they stay in
a cache of the user. The schemas that kubeconform would download are in a package of PyPI.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

from tests.support.services.debian import CACHE
from tests.support.services.packages import Missing, one_at_a_time

PROGRAMS = {
    "helm": "helm.sh/helm/v3/cmd/helm@v3.22.0",
    "kubeconform": "github.com/yannh/kubeconform/cmd/kubeconform@v0.8.0",
}
SCHEMAS = "kubernetes-validate==1.37.0"
#: The oldest and the newest Kubernetes that the chart is checked for.
VERSIONS = ("v1.25.0", "v1.37.0")


def program(name: str) -> str:
    """Returns the path of a program, and builds it if necessary. Raises Missing."""
    with one_at_a_time(name):
        path = os.pathsep.join([os.environ["PATH"], str(CACHE / "bin"), "/usr/local/go/bin"])
        if found := shutil.which(name, path=path):
            return found
        go = shutil.which("go", path=path)
        if go is None:
            raise Missing(f"{name} not found, and no Go to build it: `go install {PROGRAMS[name]}`")
        run = subprocess.run(
            [go, "install", PROGRAMS[name]],
            env={**os.environ, "GOBIN": str(CACHE / "bin")},
            capture_output=True,
            text=True,
        )
        if run.returncode:
            raise Missing(f"{name} cannot be built: `go install {PROGRAMS[name]}`: {run.stderr[-500:]}")
        return str(CACHE / "bin" / name)


def schemas(version: str) -> Path:
    """Returns the folder with one schema per kind, which refuses unknown fields. Raises Missing."""
    folder = CACHE / "kubernetes" / SCHEMAS / version
    with one_at_a_time("schemas"):
        if not folder.exists():
            _write_schemas(version, folder)
    return folder


def _write_schemas(version: str, folder: Path) -> None:
    downloads = CACHE / "downloads"
    command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "download", "--no-deps"]
    if subprocess.run([*command, "--dest", downloads, SCHEMAS]).returncode:
        raise Missing(f"the schemas of Kubernetes cannot be fetched: `pip download {SCHEMAS}`")
    [wheel] = downloads.glob("kubernetes_validate-*.whl")
    place = f"kubernetes_validate/kubernetes-json-schema/{version}-local-strict/"
    draft = folder.with_name(f"{version}.draft")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    with zipfile.ZipFile(wheel) as archive:
        definitions = json.loads(archive.read(f"{place}_definitions.json"))["$defs"]
        for kind in KINDS:
            schema = json.loads(archive.read(f"{place}{kind}.json"))
            (draft / f"{kind}.json").write_text(json.dumps(_inlined(schema, definitions)))
    draft.rename(folder)


#: The kinds of the chart.
KINDS = [
    *("deployment-apps-v1", "horizontalpodautoscaler-autoscaling-v2", "ingress-networking-v1", "job-batch-v1"),
    *("poddisruptionbudget-policy-v1", "service-v1"),
]


def _inlined(schema: Any, definitions: dict[str, Any]) -> Any:
    """Returns the schema with its references replaced. kubeconform reads single files."""
    if isinstance(schema, list):
        return [_inlined(each, definitions) for each in schema]
    if not isinstance(schema, dict):
        return schema
    if isinstance(reference := schema.get("$ref"), str):
        return _inlined(definitions[reference.rpartition("/")[2]], definitions)
    return {name: _inlined(each, definitions) for name, each in schema.items()}
